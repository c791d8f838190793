import inspect
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seeder import __main__ as program


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--source csv", "--source csv needs a PATH."),
        ("--source csv nothing.csv", "nothing.csv does not exist."),
        ("--source csv events.csv --items nothing.csv", "nothing.csv does not exist."),
        ("--source movielens nothing", "nothing does not exist."),
        ("events.csv", "PATH goes with --source movielens or csv, not with synthetic."),
        (
            "--source movielens events.csv --user-column u",
            "--user-column goes with --source csv, not with movielens.",
        ),
        ("--source csv events.csv --seed 1", "--seed goes with --source synthetic, not with csv."),
        ("--merge --replace", "Give --merge or --replace, not both."),
        (
            "--catalogue-size 5",
            "The synthetic data cannot be made: at least one user and 50 to 50,000 items are needed.",
        ),
        (
            "--source csv events.csv --map-type buy",
            "--map-type takes TEXT=TYPE with a TYPE of view, like, purchase, rating, dismiss, such as "
            "transaction=purchase.",
        ),
    ],
)
def test_mistakes_are_answered_with_one_sentence(
    arguments: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(program, "configure_logging", lambda *_: None)
    # Never reached: every mistake is found before, or without, the database.
    monkeypatch.setenv("POSTGRES_PASSWORD", "none")
    monkeypatch.setenv("POSTGRES_PORT", "1")
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\nanna,1,1600000000\n")
    result = CliRunner().invoke(program.app, arguments.split())
    assert (result.exit_code, result.stderr) == (1, sentence + "\n")


def test_every_option_of_some_sources_exists() -> None:
    """The table of options that only some sources heed names parameters; a renamed one would be missed silently."""
    assert set(program._OPTIONS_OF) <= set(inspect.signature(program.main).parameters)

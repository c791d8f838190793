import subprocess
import sys

import numpy as np
import pytest

from recstream.model.popularity import Popularity
from recstream.model.settings import CheckpointSettings
from recstream.model.vocabulary import Vocabulary


def test_codes_start_after_padding() -> None:
    vocabulary = Vocabulary(["30", "10", "20"])
    codes = vocabulary.encode(["10", "nowhere", "30", "10"])
    assert codes.dtype == np.int32
    assert codes.tolist() == [2, 0, 1, 2]
    assert vocabulary.decode([2, 1]) == ["10", "30"]
    assert len(vocabulary) == 3
    assert vocabulary.encode([]).tolist() == []


@pytest.mark.parametrize("code", [0, 4, -1])
def test_padding_is_not_an_item(code: int) -> None:
    with pytest.raises(ValueError, match="not in the vocabulary"):
        Vocabulary(["a", "b", "c"]).decode([code])


@pytest.mark.parametrize("ids", [["a", "a"], ["a", ""]])
def test_a_vocabulary_lists_each_item_once(ids: list[str]) -> None:
    with pytest.raises(ValueError, match="lists an"):
        Vocabulary(ids)


def test_a_vocabulary_survives_json() -> None:
    ids = ["ü", "🎬", '"', "\\", "10"]
    assert Vocabulary.from_json(Vocabulary(ids).to_json()).item_ids == tuple(ids)
    with pytest.raises(ValueError, match="malformed"):
        Vocabulary.from_json(b'{"item_ids":[1]}')


def test_popularity_leaves_out_what_is_excluded() -> None:
    popularity = Popularity(["a", "b", "c"], [0.5, 0.25, 0.25])
    assert popularity.top(2, {"a"}) == [("b", 0.25), ("c", 0.25)]
    assert popularity.top(2, ["b", "unknown"]) == [("a", 0.5), ("c", 0.25)]
    assert popularity.top(9) == [("a", 0.5), ("b", 0.25), ("c", 0.25)]
    assert popularity.top(0) == []
    assert Popularity.from_json(popularity.to_json()).top(3) == popularity.top(3)


@pytest.mark.parametrize(
    ("ids", "scores"),
    [
        (["a"], []),
        (["a", "b"], [0.1, 0.2]),
        (["a", "a"], [0.2, 0.1]),
        ([""], [1.0]),
        (["a"], [float("nan")]),
        (["a"], [float("inf")]),
    ],
)
def test_a_popularity_list_makes_sense(ids: list[str], scores: list[float]) -> None:
    with pytest.raises(ValueError, match=r"[Pp]opularity"):
        Popularity(ids, scores)


def test_the_checkpoints_folder_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHECKPOINTS_DIR", "/somewhere")
    assert str(CheckpointSettings().dir) == "/somewhere"


def test_reading_a_bundle_needs_no_torch() -> None:
    program = (
        "import sys, recstream.model.bundle, recstream.model.manifest, recstream.model.vocabulary, "
        "recstream.model.popularity, recstream.model.settings, recstream.model.config, recstream.model.sequences\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

import inspect
import json
import re
from pathlib import Path

import pytest

from trainer.__main__ import main
from trainer.settings import TrainerSettings

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "training.md"


def test_every_setting_is_an_option_and_documented_with_its_default() -> None:
    fields = TrainerSettings.model_fields
    assert set(inspect.signature(main).parameters) - {"first"} == set(fields)  # an option of the command alone
    documented = dict(re.findall(r"^\| `--([a-z-]+)` \| (.+?) \|", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE))
    assert documented.keys() - {"first"} == {name.replace("_", "-") for name in fields}
    for name, field in fields.items():
        if isinstance(field.default, int | float):
            assert json.loads(documented[name.replace("_", "-")]) == field.default


def test_options_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINER_EPOCHS", "7")
    assert TrainerSettings().epochs == 7
    assert TrainerSettings(epochs=8).epochs == 8

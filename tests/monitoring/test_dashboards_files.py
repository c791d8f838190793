"""Grafana's files: what the generator makes is what is committed, and every panel says what it shows."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from launcher.layout import CHECKOUT

GRAFANA = CHECKOUT / "monitoring" / "grafana"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_dashboards", GRAFANA / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_committed_dashboards_are_what_the_generator_makes() -> None:
    generator = _generator()
    made = {f"{name}.json": generator.render(content) for name, content in generator.DASHBOARDS.items()}
    assert {file.name: file.read_text(encoding="utf-8") for file in FILES} == made


def test_uids_are_unique() -> None:
    uids = [json.loads(file.read_text())["uid"] for file in FILES]
    assert len(set(uids)) == len(uids) == 5


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_panel_is_described_placed_and_asks_the_provisioned_source(file: Path) -> None:
    source = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"][0]
    taken: set[tuple[int, int]] = set()
    for panel in _panels(file):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
        assert panel["targets"]
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert columns.stop <= 24
        assert not cells & taken, f"{panel['title']} lies on another panel"
        taken |= cells


def _panels(file: Path) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = json.loads(file.read_text())["panels"]
    return panels

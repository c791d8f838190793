"""Recording rules and alerts: valid, explained in the runbook, and firing when they should (promtool's cases)."""

import re
import subprocess

import yaml

from launcher.layout import CHECKOUT
from tests.monitoring.programs import needs_promtool

RULES = CHECKOUT / "monitoring" / "rules"
CASES = CHECKOUT / "tests" / "monitoring" / "rule_cases.yml"


def _alerts() -> dict[str, dict[str, object]]:
    groups = yaml.safe_load((RULES / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def test_every_alert_has_an_entry_in_the_runbook() -> None:
    runbook = (CHECKOUT / "docs" / "runbook.md").read_text(encoding="utf-8")
    entries = set(re.findall(r"^## (\w+)$", runbook, re.MULTILINE))
    assert entries == set(_alerts())
    for name, rule in _alerts().items():
        annotations = rule["annotations"]
        assert isinstance(annotations, dict)
        assert annotations["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_every_alert_has_a_case() -> None:
    cases = yaml.safe_load(CASES.read_text())["tests"]
    tested = {test["alertname"] for case in cases for test in case["alert_rule_test"]}
    assert tested == set(_alerts())


@needs_promtool
def test_alerts_fire_when_they_should() -> None:
    ran = subprocess.run(["promtool", "test", "rules", CASES], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_recorded_series_is_asked_for() -> None:
    """What nobody asks for is computed every few seconds for nothing."""
    groups = yaml.safe_load((RULES / "recording.yml").read_text(encoding="utf-8"))["groups"]
    recorded = {rule["record"]: rule["expr"] for group in groups for rule in group["rules"]}
    dashboards = (CHECKOUT / "monitoring" / "grafana" / "dashboards").glob("*.json")
    askers = "".join(file.read_text(encoding="utf-8") for file in [RULES / "alerts.yml", *dashboards])
    unasked = {name for name in recorded if name not in askers + "".join(recorded.values())}
    assert unasked == set()


@needs_promtool
def test_the_rules_are_valid() -> None:
    ran = subprocess.run(["promtool", "check", "rules", *RULES.glob("*.yml")], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr

"""Grafana's dashboards, read from their JSON: which panels there are and what each asks of Prometheus.

Only what the page draws is read; a member that it does not know changes nothing.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec import Struct

log = structlog.get_logger()

SCRAPE_SECONDS = 5
"""How often Prometheus looks, in `monitoring/prometheus.yml` and in the launcher's configuration."""

_LABEL = re.compile(r"{{\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*}}")
_VARIABLE = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$(\w+)|\[\[(\w+)\]\]")
_ALL = "$__all"


class Target(Struct, frozen=True, rename="camel"):
    """One query of a panel."""

    expr: str = ""
    legend_format: str = ""
    format: str = ""
    instant: bool = False
    hide: bool = False


class Position(Struct, frozen=True):
    """Where a panel lies; a dashboard is 24 wide."""

    x: int = 0
    y: int = 0
    w: int = 24
    h: int = 8


class Step(Struct, frozen=True):
    """From `value` on (None: from the lowest) a panel has this colour."""

    color: str = ""
    value: float | None = None


class Thresholds(Struct, frozen=True):
    """When a value is worth a colour."""

    steps: list[Step] = []


class Defaults(Struct, frozen=True):
    """How a panel's values are written."""

    unit: str = ""
    min: float | None = None
    max: float | None = None
    decimals: int | None = None
    thresholds: Thresholds | None = None
    custom: dict[str, Any] = {}


class FieldConfig(Struct, frozen=True):
    """Grafana's name for it."""

    defaults: Defaults = Defaults()


class Transformation(Struct, frozen=True):
    """What a table does to its columns."""

    id: str = ""
    options: dict[str, Any] = {}


class Panel(Struct, frozen=True, rename="camel"):
    """A panel: what it asks and how it is drawn. A row holds the panels below it where it is folded."""

    type: str
    title: str = ""
    description: str = ""
    grid_pos: Position = Position()
    targets: list[Target] = []
    field_config: FieldConfig = FieldConfig()
    options: dict[str, Any] = {}
    transformations: list[Transformation] = []
    panels: list["Panel"] = []


class Variable(Struct, frozen=True, rename="camel"):
    """A variable of a dashboard."""

    name: str
    type: str = ""
    all_value: str | None = None
    current: dict[str, Any] = {}

    @property
    def text(self) -> str:
        """Return what stands for it in an expression: its current value, or a pattern for all."""
        value = self.current.get("value", _ALL)
        values = [str(each) for each in value] if isinstance(value, list) else [str(value)]
        if not values or _ALL in values:
            return self.all_value or ".*"
        return "|".join(values)


class _Templating(Struct, frozen=True):
    variables: list[Variable] = msgspec.field(default_factory=list, name="list")


class Dashboard(Struct, frozen=True):
    """A dashboard."""

    title: str
    panels: list[Panel]
    uid: str = ""
    description: str = ""
    templating: _Templating = _Templating()

    def rows(self) -> Iterator[list[Panel]]:
        """Yield the panels as they lie beside one another, from top to bottom."""
        panels = [inner for panel in self.panels for inner in (panel, *panel.panels)]
        panels.sort(key=lambda panel: (panel.grid_pos.y, panel.grid_pos.x))
        row: list[Panel] = []
        for panel in panels:
            if row and (panel.grid_pos.y != row[0].grid_pos.y or "row" in (panel.type, row[0].type)):
                yield row
                row = []
            row.append(panel)
        if row:
            yield row

    def variables(self) -> dict[str, str]:
        """Return what stands for each variable."""
        return {variable.name: variable.text for variable in self.templating.variables if variable.type != "datasource"}


def read_dashboards(folder: Path) -> list[Dashboard]:
    """Return the folder's dashboards, the overview first. What cannot be read is logged and left out."""
    found = []
    for file in sorted(folder.glob("*.json")):
        try:
            found.append(msgspec.json.decode(file.read_bytes(), type=Dashboard))
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError) as error:
            log.warning("dashboard.unreadable", file=str(file), reason=str(error))
    return sorted(found, key=lambda dashboard: "overview" not in dashboard.title.lower())


def expand(expression: str, variables: Mapping[str, str], window: float, step: float) -> str:
    """Return the expression with values in the place of its variables, Grafana's own among them.

    `window` is the time shown, `step` the distance of two points, both in seconds.
    """
    own = {
        "__rate_interval": f"{max(4 * SCRAPE_SECONDS, step + SCRAPE_SECONDS):.0f}s",
        "__interval": f"{step:.0f}s",
        "__interval_ms": f"{step * 1000:.0f}",
        "__range": f"{window:.0f}s",
        "__range_s": f"{window:.0f}",
        "__range_ms": f"{window * 1000:.0f}",
    }

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2] or match[3]
        return own.get(name, variables.get(name, match[0]))

    return _VARIABLE.sub(value, expression)


def legend(target: Target, labels: Mapping[str, str], otherwise: str) -> str:
    """Return a series' name: as the legend's format says, else its labels, else `otherwise`."""
    if target.legend_format and target.legend_format != "__auto":
        return _LABEL.sub(lambda match: labels.get(match[1], ""), target.legend_format).strip() or otherwise
    named = {name: value for name, value in labels.items() if name != "__name__"}
    if len(named) == 1:
        return next(iter(named.values()))
    return ", ".join(f"{name} {value}" for name, value in sorted(named.items())) or otherwise


def reduced(values: Sequence[float], options: Mapping[str, Any]) -> float | None:
    """Return one value for many, as the panel's options say; the last one where they do not."""
    if not values:
        return None
    match (options.get("reduceOptions") or {}).get("calcs") or ["lastNotNull"]:
        case ["mean", *_]:
            return sum(values) / len(values)
        case ["max", *_]:
            return max(values)
        case ["min", *_]:
            return min(values)
        case ["sum", *_]:
            return sum(values)
        case ["first" | "firstNotNull", *_]:
            return values[0]
    return values[-1]

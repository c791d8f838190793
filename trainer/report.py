"""A page about one training: how it went, how the model compares, what the data look like.

One HTML file without anything from elsewhere, so that it can be opened from a disk, attached or archived.
"""

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

import numpy as np

from recstream.model.bundle import BundleReference
from trainer.fit import Fitted
from trainer.gate import Decision
from trainer.interactions import Interactions
from trainer.reporting import COMPARED_METRICS

REPORT: Final = "report.html"
_WIDTH, _HEIGHT = 460, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 30
_POPULARITY_POINTS = 60

_STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #6b7686; --line: #d9dee5; --paper: #fff; --one: #2f6fde;
        --two: #d9822b; --good: #1f8a4c; --bad: #c23b3b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7ebf0; --soft: #93a0b2; --line: #333c48; --paper: #161b22;
        --one: #6ea3ff; --two: #f0a860; --good: #57c785; --bad: #f08080; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1000px;
       margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p { margin: .3rem 0; } .soft { color: var(--soft); } .good { color: var(--good); } .bad { color: var(--bad); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(360px, 1fr)); gap: 1.5rem; }
figure { margin: 0; } figcaption { font-weight: 600; } svg { width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 11px; } .grid { stroke: var(--line); } .axis { stroke: var(--soft); }
.curve { fill: none; stroke: var(--one); stroke-width: 2; } .bar { fill: var(--one); } .mark { fill: var(--two); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; } td, th { padding: .2rem .9rem .2rem 0;
       border-bottom: 1px solid var(--line); text-align: right; } td:first-child, th:first-child { text-align: left; }
.wide { overflow-x: auto; }
"""


def write_report(
    checkpoints: Path, reference: BundleReference, data: Interactions, fitted: Fitted, decision: Decision
) -> Path:
    """Write the page into the bundle's folder, beside the files that the manifest lists. Raises OSError."""
    path = checkpoints / reference.folder / REPORT
    path.write_text(render_report(reference, data, fitted, decision), encoding="utf-8")
    path.chmod(0o644)
    return path


def render_report(reference: BundleReference, data: Interactions, fitted: Fitted, decision: Decision) -> str:
    """Return the page."""
    epochs, best = fitted.training.epochs, fitted.training.best
    assert best is not None
    numbers, losses = [float(each.number) for each in epochs], [each.loss for each in epochs]
    lengths = np.diff(data.offsets)
    counts = np.sort(np.bincount(data.codes, minlength=data.n_items + 1)[1:])[::-1]
    window = data.window
    period = f", {window.first_at:%Y-%m-%d} to {window.last_at:%Y-%m-%d}" if window.first_at and window.last_at else ""
    outcome = "promoted" if decision.promoted else "refused"
    charts = [
        _figure("Loss (mean cross-entropy, nats)", _curve(numbers, losses, "epoch", best.number)),
        _figure("Validation NDCG@10", _curve(numbers, [each.ndcg for each in epochs], "epoch", best.number)),
        _figure("Lengths of histories (users)", _length_bars(lengths)),
        _figure("Popularity of items (interactions by rank)", _popularity_curve(counts)),
    ]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(reference.version)}</title><style>{_STYLE}</style></head><body>
<h1>{escape(reference.version)}</h1>
<p class="{"good" if decision.promoted else "bad"}">{outcome}: {escape(decision.reason)}</p>
<p class="soft">{len(data.codes):,} interactions of {data.n_users:,} users with {data.n_items:,} items{period}.
{len(epochs)} epochs in {epochs[-1].seconds:,.0f} s, the best is {best.number}; ended by
{escape(fitted.training.ended_because)}.</p>
<div class="charts">{"".join(charts)}</div>
<h2>Test: each user's last item, ranked among all unseen ones ({fitted.model.users:,} users)</h2>
{_metrics_table(fitted)}
<h2>Gate: what came after {escape(decision.hold_out.after or "-")} ({decision.hold_out.users:,} users)</h2>
{_gate_table(decision)}
</body></html>
"""


def _figure(caption: str, svg: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{svg}</figure>"


def _metrics_table(fitted: Fitted) -> str:
    rows = []
    for name in COMPARED_METRICS:
        ours, theirs = fitted.model.metrics[name], fitted.popularity.metrics[name]
        digits = 1 if name.startswith("arp") else 4
        ratio = f"{ours / theirs:.2f}" if theirs else "-"
        rows.append(f"<tr><td>{name}</td><td>{ours:.{digits}f}</td><td>{theirs:.{digits}f}</td><td>{ratio}</td></tr>")
    return (
        '<div class="wide"><table><tr><th>metric</th><th>SASRec</th><th>popularity</th><th>ratio</th></tr>'
        + "".join(rows)
        + "</table></div>"
    )


def _gate_table(decision: Decision) -> str:
    if not decision.against:
        return '<p class="soft">Nobody could be asked.</p>'
    rows = [
        f"<tr><td>{escape(each.opponent)}</td><td>{each.candidate_ndcg:.4f}</td><td>{each.opponent_ndcg:.4f}</td>"
        f"<td>{each.difference:+.4f}</td><td>{each.low:+.4f} to {each.high:+.4f}</td>"
        f"<td>{each.verdict.replace('_', ' ')}</td></tr>"
        for each in decision.against
    ]
    return (
        '<div class="wide"><table><tr><th>against</th><th>NDCG@10</th><th>its NDCG@10</th><th>difference</th>'
        "<th>95% interval</th><th>verdict</th></tr>" + "".join(rows) + "</table></div>"
    )


def _length_bars(lengths: np.ndarray) -> str:
    """Users by the length of their history, in buckets that double."""
    top = max(1, math.ceil(math.log2(int(lengths.max()) + 1)))
    edges = [2**power for power in range(top + 1)]
    users, _ = np.histogram(lengths, bins=edges)
    step = (_WIDTH - _LEFT - _RIGHT) / len(users)
    highest = _nice(float(users.max()))
    bars, labels = [], []
    for at, count in enumerate(users.tolist()):
        x, height = _LEFT + at * step, count / highest * (_HEIGHT - _TOP - _BOTTOM)
        bars.append(
            f'<rect class="bar" x="{x + 2:.1f}" y="{_HEIGHT - _BOTTOM - height:.1f}" width="{step - 4:.1f}" '
            f'height="{height:.1f}"><title>{edges[at]} to {edges[at + 1] - 1} items: {count:,} users</title></rect>'
        )
        labels.append(_text(x + step / 2, _HEIGHT - _BOTTOM + 14, str(edges[at]), "middle"))
    return _svg([*_horizontal_grid(0, highest), *bars, *labels, _axis_name("items, from")])


def _popularity_curve(counts: np.ndarray) -> str:
    """How often the item of each rank occurs, both on logarithmic scales."""
    ranks = np.unique(np.geomspace(1, len(counts), _POPULARITY_POINTS).astype(int))
    return _curve(
        [math.log10(rank) for rank in ranks.tolist()],
        [math.log10(max(1, int(counts[rank - 1]))) for rank in ranks.tolist()],
        "rank",
        logarithmic=True,
    )


def _curve(
    xs: Sequence[float], ys: Sequence[float], x_name: str, marked: int | None = None, *, logarithmic: bool = False
) -> str:
    low, high = (0.0, max(1.0, math.ceil(max(ys)))) if logarithmic else _around(ys)
    left, right = (0.0, max(1.0, max(xs))) if logarithmic else (min(xs), max(max(xs), min(xs) + 1))

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            _LEFT + (x - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT),
            _TOP + (high - y) / (high - low) * (_HEIGHT - _TOP - _BOTTOM),
        )

    points = [place(x, y) for x, y in zip(xs, ys, strict=True)]
    path = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    parts = _decades(low, high) if logarithmic else _horizontal_grid(low, high)
    parts.append(f'<path class="curve" d="{path}"/>')
    ends_and_middle = {round(left), round((left + right) / 2), round(right)}
    ticks = range(math.floor(right) + 1) if logarithmic else sorted(ends_and_middle)
    for tick in ticks:
        x, _ = place(float(tick), low)
        parts.append(_text(x, _HEIGHT - _BOTTOM + 14, f"{10**tick:,}" if logarithmic else str(tick), "middle"))
    if marked is not None:
        x, y = points[marked - 1]
        hint = f"<title>best: {ys[marked - 1]:.4f}</title>"
        parts.append(f'<circle class="mark" cx="{x:.1f}" cy="{y:.1f}" r="4">{hint}</circle>')
    return _svg([*parts, _axis_name(x_name)])


def _horizontal_grid(low: float, high: float) -> list[str]:
    parts = []
    for quarter in range(5):
        value = low + (high - low) * quarter / 4
        y = _HEIGHT - _BOTTOM - quarter / 4 * (_HEIGHT - _TOP - _BOTTOM)
        parts.append(_rule(y, quarter == 0))
        parts.append(_text(_LEFT - 6, y + 4, f"{value:,.0f}" if high >= 100 else f"{value:.3g}", "end"))
    return parts


def _decades(low: float, high: float) -> list[str]:
    parts = []
    for power in range(int(low), int(high) + 1):
        y = _HEIGHT - _BOTTOM - (power - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
        parts += [_rule(y, power == int(low)), _text(_LEFT - 6, y + 4, f"{10**power:,}", "end")]
    return parts


def _rule(y: float, axis: bool) -> str:
    return f'<line class="{"axis" if axis else "grid"}" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _text(x: float, y: float, content: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def _axis_name(name: str) -> str:
    return _text(_WIDTH - _RIGHT, _HEIGHT - 2, name, "end")


def _svg(parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{"".join(parts)}</svg>'


def _around(values: Sequence[float]) -> tuple[float, float]:
    """Return bounds with a little room, never the same number twice."""
    low, high = min(values), max(values)
    room = (high - low) * 0.08 or max(abs(high) * 0.1, 0.01)
    return (max(0.0, low - room) if low >= 0 else low - room), high + room


def _nice(value: float) -> float:
    """Return a round number not below `value`."""
    magnitude = 10 ** math.floor(math.log10(max(value, 1)))
    return float(next(step * magnitude for step in (1, 2, 4, 8, 10) if step * magnitude >= value))

"""Values with Grafana's units, as text and as Vega's expressions for an axis."""

from recstream.ops.clock import now_ms

_SECONDS = ((86_400, 172_800, "d"), (3_600, 7_200, "h"), (60, 120, "min"), (1, 1, "s"))
_PER_SECOND = frozenset({"reqps", "ops", "cps", "rps", "wps", "iops", "eps", "mps", "recps"})
_BYTES = frozenset({"bytes", "decbytes"})
_LARGE = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def with_unit(value: float, unit: str, decimals: int | None = None) -> str:
    """Return a value as people read it: `6.7 ms`, `42%`, `1.2k/s`."""
    match unit:
        case "s":
            return _duration(value, decimals)
        case "ms":
            return _duration(value / 1000, decimals)
        case "percentunit":
            return f"{_number(value * 100, 1 if decimals is None else decimals)}%"
        case "percent":
            return f"{_number(value, 1 if decimals is None else decimals)}%"
        case "dateTimeFromNow":
            return f"{_duration(max(now_ms() - value, 0) / 1000, 0)} ago"
    text = _large(value, decimals)
    if unit in _PER_SECOND:
        return f"{text}/s"
    return f"{text}B" if unit in _BYTES else text


def axis_label(unit: str) -> str:
    """Return a Vega expression for an axis label: `datum.value` with its unit."""
    match unit:
        case "s":
            return _duration_label("datum.value")
        case "ms":
            return _duration_label("(datum.value / 1000)")
        case "percentunit":
            return "format(datum.value * 100, '.3~f') + '%'"
        case "percent":
            return "format(datum.value, '.3~f') + '%'"
    number = "(abs(datum.value) < 1000 ? format(datum.value, '.3~f') : format(datum.value, '.3~s'))"
    suffix = "/s" if unit in _PER_SECOND else "B" if unit in _BYTES else ""
    return f"{number} + '{suffix}'"


def _duration_label(seconds: str) -> str:
    expression = f"{seconds} == 0 ? '0' : abs({seconds}) < 1 ? format({seconds} * 1000, '.3~f') + ' ms'"
    for (length, _, name), (_, below, _) in zip(reversed(_SECONDS), reversed(_SECONDS[:-1]), strict=False):
        expression += f" : abs({seconds}) < {below} ? format({seconds} / {length}, '.3~f') + ' {name}'"
    length, _, name = _SECONDS[0]
    return f"{expression} : format({seconds} / {length}, '.3~f') + ' {name}'"


def _duration(seconds: float, decimals: int | None) -> str:
    for length, least, name in _SECONDS:
        if abs(seconds) >= least:
            return f"{_number(seconds / length, 1 if decimals is None else decimals)} {name}"
    if seconds == 0:
        return "0 s"
    return f"{_number(seconds * 1000, 1 if decimals is None else decimals)} ms"


def _large(value: float, decimals: int | None) -> str:
    for least, name in _LARGE:
        if abs(value) >= least * 10 or (least > 1e3 and abs(value) >= least):
            return f"{_number(value / least, 1 if decimals is None else decimals)}{name}"
    if decimals is not None:
        return f"{value:,.{decimals}f}"
    return f"{value:,.0f}" if value == round(value) else f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"


def _number(value: float, decimals: int) -> str:
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text

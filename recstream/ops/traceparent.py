"""W3C Trace Context's `traceparent`: which trace something belongs to, and which span it continues.

Source: W3C Trace Context Level 2, section 3.2.
"""

import re

_FORM = re.compile(r"(?!ff)([0-9a-f]{2})-((?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})(-.*)?")


def valid_traceparent(text: str | None) -> str | None:
    """Return the traceparent in the form of version 00, or None where there is none that can be used.

    What a later version adds is left out, as the specification asks of those who do not know that version.
    """
    match = _FORM.fullmatch(text) if text is not None else None
    if match is None or (match[1] == "00" and match[3] is not None):
        return None
    return f"00-{match[2]}"


def trace_id_of(traceparent: str | None) -> str | None:
    """Return the trace's id, 32 hexadecimal digits, of a valid traceparent."""
    return traceparent[3:35] if traceparent is not None else None

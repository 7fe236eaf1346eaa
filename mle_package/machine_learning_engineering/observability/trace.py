"""W3C Trace Context: the `traceparent` header."""

import re

TRACEPARENT = "traceparent"
_TRACEPARENT_TEXT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")


def trace_ids(traceparent: object) -> tuple[str, str] | None:
    """Return trace id and span id of a `traceparent`; None if it is missing or malformed."""
    match = _TRACEPARENT_TEXT.fullmatch(traceparent) if isinstance(traceparent, str) else None
    return None if match is None else (match[1], match[2])

"""The header of a record that is scored again: where it is in a topic of others, to which nothing is ever written."""

import re
from collections.abc import Iterable

from machine_learning_engineering.events.schemas import SourcePosition

SOURCE = "inflight_source"
"""On a record of the topic of requests: its value is that of a source's record, whose place this is."""
_PLACE = re.compile(rb"([A-Za-z0-9._-]{1,249})/(\d{1,9})/(\d{1,18})")


def source_header(place: SourcePosition) -> tuple[str, bytes]:
    """Return the header that names a place."""
    return SOURCE, f"{place.topic}/{place.partition}/{place.offset}".encode()


def source_of(headers: Iterable[tuple[str, bytes | None]]) -> SourcePosition | None:
    """Return the place that a record's headers name; None if they name none."""
    for name, value in headers:
        if name == SOURCE and value is not None and (found := _PLACE.fullmatch(value)):
            return SourcePosition(found[1].decode(), int(found[2]), int(found[3]))
    return None

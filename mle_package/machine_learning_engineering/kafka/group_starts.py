"""Where a consumer group began to read a partition: kept as metadata of its committed offset, for whoever counts."""

import re

__all__ = ["parse_start", "start_metadata"]

_START = re.compile(r"start=(\d{1,18})")


def start_metadata(offset: int) -> str:
    """Return the metadata of an offset whose group began at another one."""
    return f"start={offset}"


def parse_start(metadata: str | None) -> int | None:
    """Return the offset at which a group began; None if the metadata of its committed offset does not say."""
    found = _START.fullmatch(metadata or "")
    return int(found[1]) if found else None

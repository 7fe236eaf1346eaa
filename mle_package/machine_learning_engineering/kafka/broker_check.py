"""Detects a client that has forgotten all brokers. Needs the extra `kafka` (confluent-kafka).

A broker that shuts down cleanly answers a last metadata request with an empty list of brokers. librdkafka (2.10 and
later, its issue 5301) then drops every broker that it knows, the configured ones too. Unless a race brings these
back, the client never connects again, and reports no error. A broker that is only unreachable stays in the statistics.
"""

from collections.abc import Callable
from typing import Any

import msgspec

STATISTICS_SECONDS = 5.0
"""Interval of a client's statistics, in seconds."""
_LIMIT = 3
"""Consecutive statistics without a broker that the client could connect to."""


class NoBrokersLeftError(RuntimeError):
    """A client has forgotten all brokers. It never connects again: only a new client does."""


def broker_check_options(
    on_statistics: Callable[[dict[str, Any]], None] | None = None, interval: float = STATISTICS_SECONDS
) -> dict[str, Any]:
    """Return the librdkafka options that make `poll` and `consume` of one client raise NoBrokersLeftError.

    Only for a client that is polled continuously: the statistics of one that is not would fill its memory.

    Args:
        on_statistics: Called with each statistics. What it raises comes out of `poll`, too.
        interval: Seconds between two statistics.
    """
    without_brokers = 0

    def stats_cb(statistics: str) -> None:
        nonlocal without_brokers
        decoded = msgspec.json.decode(statistics)
        if on_statistics is not None:
            on_statistics(decoded)
        sources = {broker["source"] for broker in decoded["brokers"].values()}
        # A logical broker, such as a group's coordinator, has no address of its own.
        without_brokers = 0 if sources & {"configured", "learned"} else without_brokers + 1
        if without_brokers >= _LIMIT:
            raise NoBrokersLeftError("librdkafka has forgotten all brokers: only a new client can connect")

    return {"statistics.interval.ms": int(interval * 1000), "stats_cb": stats_cb}

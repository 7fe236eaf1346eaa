"""The time by which windows close: ours at the end of all partitions, the stream's own while there is a backlog."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime


def stream_time(
    owned: Collection[int],
    ends: Collection[int],
    newest: Mapping[int, datetime],
) -> datetime | None:
    """Our time if all partitions were read to their ends, else the time of the partition that is furthest behind.

    A backlog therefore closes the same windows as a live stream: rows that wait are never late. A producer's clock
    ahead of ours has no effect.

    Args:
        ends: the partitions that were read to their ends.
        newest: by partition, the latest acceptance time in what was read last.

    Returns:
        None if a partition has a backlog and nothing was read from it yet.
    """
    times = [datetime.now(UTC)]
    for partition in owned:
        if partition not in ends:
            if partition not in newest:
                return None
            times.append(newest[partition])
    return min(times)

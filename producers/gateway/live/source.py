"""Where live streams come from: what is new, and what was before."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from producers.gateway.live.positions import Positions
from producers.gateway.live.records import Gap, Record


class Delivery(NamedTuple):
    """What a source has found: new partitions with their positions, and new records in the order of each partition.

    If `lost`, records were deleted before they were read: subscribers have to look what is there.
    """

    places: Positions
    records: list[Record]
    lost: bool = False


class PastUnavailable(Exception):
    """The broker does not respond."""


class Opened(NamedTuple):
    """A `Past`, where it begins, and what is not there any more."""

    past: "Past"
    positions: Positions
    gaps: list[Gap]


class Past(Protocol):
    """Reads from given positions on. Its owner closes it."""

    async def read(self) -> tuple[list[Record], Positions]:
        """The next records, maybe none, and the positions behind them.

        Raises:
            PastUnavailable: records were deleted before they were read, or the broker does not respond: open another.
        """

    async def close(self) -> None:
        """End it."""


class Source(Protocol):
    """Belongs to the event loop."""

    def follow(self, deliver: Callable[[Delivery], None]) -> None:
        """Deliver what is new from now on: first the partitions with their ends. Calls in the event loop."""

    def stop(self) -> None:
        """Deliver nothing more."""

    async def open(self, positions: Positions) -> Opened:
        """Begin to read at these positions.

        Raises:
            PastUnavailable: the broker does not respond.
        """

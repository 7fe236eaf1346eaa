"""The live streams of a gateway: follows the topics while somebody listens, and admits subscribers."""

import asyncio
from collections import Counter

from producers.gateway.live.backlog import Backlog
from producers.gateway.live.positions import Place, Positions, StreamName
from producers.gateway.live.source import Delivery, Source
from producers.gateway.problems import busy

_READY_SECONDS = 5.0
_IDLE_SECONDS = 60.0
_MAX_BACKLOG_BYTES = 32 * 1024 * 1024


class Hub:
    """Belongs to the event loop.

    Args:
        source: of the records.
        max_records: that are kept for subscribers who are behind.
        max_subscribers: of all callers.
        max_per_caller: of one.
    """

    def __init__(self, source: Source, max_records: int, max_subscribers: int, max_per_caller: int) -> None:
        self.source = source
        self._max_records = max_records
        self._max_subscribers = max_subscribers
        self._max_per_caller = max_per_caller
        self._callers: Counter[str] = Counter()
        self._following = False
        self._idle: asyncio.TimerHandle | None = None
        self.backlog = Backlog(max_records, _MAX_BACKLOG_BYTES)
        self.changed = asyncio.Event()
        """Set at the next change, and then replaced by another one."""
        self.stopping = False
        self.overflows = 0
        """Gaps because a client was too slow."""

    @property
    def subscribers(self) -> int:
        """Streams that are open."""
        return self._callers.total()

    def drain(self) -> None:
        """Let all streams end."""
        self.stopping = True
        self._tell()

    def close(self) -> None:
        """Follow the topics no more."""
        if self._idle is not None:
            self._idle.cancel()
        self._stop()

    async def admit(self, caller: str) -> None:
        """Count a subscriber, and wait until the topics are followed. Each is released by `release`.

        Raises:
            Problem: there are too many, or the broker does not respond.
        """
        if self.stopping:
            raise busy("not-ready", "the gateway ends: try again")
        if self._callers[caller] >= self._max_per_caller:
            message = f"this caller may have {self._max_per_caller:,} live streams: close one"
            raise busy("too-many-requests", message, seconds=5)
        if self.subscribers >= self._max_subscribers:
            raise busy("overloaded", f"{self._max_subscribers:,} live streams are open: try again", seconds=5)
        self._callers[caller] += 1
        try:
            await self._follow()
        except BaseException:
            self.release(caller)
            raise

    def release(self, caller: str) -> None:
        """A subscriber is gone. After the last one, the topics are followed for a while, and then no more."""
        self._callers[caller] -= 1
        if not self._callers[caller]:
            del self._callers[caller]
        if not self._callers and self._idle is None:
            self._idle = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._stop)

    def start_of(self, streams: frozenset[StreamName], asked: Positions | None) -> Positions:
        """Where a subscriber begins.

        Args:
            streams: that it wants.
            asked: the positions that it has; a stream that these lack begins now, and so do all without any.
        """
        given = asked or {}
        known = {place.stream for place in given}

        def begin(place: Place, end: int) -> int:
            # A partition that was added since then is new to its last record.
            return given.get(place, 0) if place.stream in known else end

        ends = self.backlog.end.items()
        return {place: begin(place, end) for place, end in sorted(ends) if place.stream in streams}

    async def _follow(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if not self._following:
            self._following = True
            self.backlog = Backlog(self._max_records, _MAX_BACKLOG_BYTES)
            self.source.follow(self._deliver)
        try:
            async with asyncio.timeout(_READY_SECONDS):
                while not self.backlog.end and not self.stopping:
                    await self.changed.wait()
        except TimeoutError:
            raise busy("not-ready", "the broker does not respond: try again") from None

    def _deliver(self, found: Delivery) -> None:
        if found.lost:
            self.backlog.restart(found.places)
        self.backlog.add_places(found.places)
        self.backlog.add(found.records)
        self._tell()

    def _tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def _stop(self) -> None:
        self._idle = None
        if self._following:
            self._following = False
            self.source.stop()

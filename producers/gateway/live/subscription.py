"""One subscriber of live streams: from the position that it has to what is new, and told of every hole."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress

from machine_learning_engineering.observability.rate_limit import RATE_LIMITED
from producers.gateway.live.hub import Hub
from producers.gateway.live.positions import Positions, StreamName
from producers.gateway.live.records import Gap, Record, shown, shown_gap, shown_ping
from producers.gateway.live.source import PastUnavailable

logger = logging.getLogger(__name__)

PING_SECONDS = 15.0
_AT_A_TIME = 200
_RETRY_SECONDS = 1.0
# Of a client that lost its connection, before it asks again.
_RETRY = b"retry: 1000\n"


class Subscription:
    """Events as bytes, for one client.

    Args:
        hub: that has admitted it.
        streams: that it wants.
        models: whose events it wants; empty for all.
        asked: the positions where it wants to go on; None for now.
    """

    def __init__(
        self, hub: Hub, streams: frozenset[StreamName], models: frozenset[str], asked: Positions | None
    ) -> None:
        self._hub = hub
        self._streams = streams
        self._models = models
        self.positions = hub.start_of(streams, asked)
        self._generation = hub.backlog.generation
        self._number = hub.backlog.next
        self._live = asked is None
        self._sent_at = 0.0

    async def events(self) -> AsyncGenerator[bytes, None]:
        """Events, gaps and pings, each time as many as there are; ends when the gateway does."""
        hub = self._hub
        yield self._sent(_RETRY + shown_ping(self.positions))
        while not hub.stopping:
            if self._generation != hub.backlog.generation or not self._live:
                async with aclosing(self._catch_up()) as past:
                    async for found in past:
                        yield self._sent(found)
                continue
            # Taken before looking: what comes from now on sets it.
            changed = hub.changed
            found = self._new()
            if not found and self._number == hub.backlog.next:
                await self._wait(changed)
            if found or self._is_ping_due():
                yield self._sent(found or shown_ping(self.positions))
            else:
                # Events for others only: let others run.
                await asyncio.sleep(0)

    def _new(self) -> bytes:
        """What came since the last time, or a part of it."""
        backlog = self._hub.backlog
        gap = b""
        if self._number < backlog.first:
            gap = self._skip()
        records = backlog.get(self._number, _AT_A_TIME)
        self._number += len(records)
        return gap + self._take(records)

    def _skip(self) -> bytes:
        """Leave out what the backlog has dropped since: the client is too slow."""
        backlog, before = self._hub.backlog, dict(self.positions)
        for place, offset in backlog.start.items():
            if place in before:
                self.positions[place] = max(offset, before[place])
        self._number = backlog.first
        offsets = sum(self.positions.values()) - sum(before.values())
        if not offsets:
            return b""
        self._hub.overflows += 1
        return shown_gap(Gap("overflow", offsets, before), self.positions)

    def _take(self, records: Iterable[Record]) -> bytes:
        """The events of records that are for this subscriber and that it does not have."""
        positions, models, found = self.positions, self._models, []
        for one in records:
            if one.place.stream not in self._streams or one.offset < positions.get(one.place, 0):
                continue
            positions[one.place] = one.offset + 1
            if one.text and (not models or one.model in models):
                found.append(shown(one, positions))
        return b"".join(found)

    async def _catch_up(self) -> AsyncGenerator[bytes, None]:
        """What the topics have from the positions on, at the client's pace, until the backlog goes on from there."""
        hub = self._hub
        self._generation = hub.backlog.generation
        if hub.backlog.covers(self.positions) and not self._is_ahead():
            self._go_live()
            return
        try:
            opened = await hub.source.open(self.positions)
        except PastUnavailable as error:
            logger.warning("a live stream waits for the broker: %s", error, extra=RATE_LIMITED)
            await asyncio.sleep(_RETRY_SECONDS)
            if self._is_ping_due():
                yield shown_ping(self.positions)
            return
        try:
            self.positions.update(opened.positions)
            for gap in opened.gaps:
                yield shown_gap(gap, self.positions)
            while not hub.stopping and not hub.backlog.covers(self.positions):
                records, behind = await opened.past.read()
                found = self._take(records)
                self.positions.update(behind)
                if found or self._is_ping_due():
                    yield found or shown_ping(self.positions)
        except PastUnavailable:
            # Another one finds out what is still there.
            return
        finally:
            await opened.past.close()
        if self._generation == hub.backlog.generation:
            self._go_live()

    def _is_ahead(self) -> bool:
        """Whether a position is behind the end of its partition: it is from a topic that is gone."""
        ends = self._hub.backlog.end
        return any(offset > ends.get(place, offset) for place, offset in self.positions.items())

    def _go_live(self) -> None:
        # Those before the positions are passed over.
        self._number = self._hub.backlog.first
        self._live = True

    async def _wait(self, changed: asyncio.Event) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._sent_at + PING_SECONDS - time.monotonic())):
                await changed.wait()

    def _is_ping_due(self) -> bool:
        return time.monotonic() >= self._sent_at + PING_SECONDS

    def _sent(self, content: bytes) -> bytes:
        self._sent_at = time.monotonic()
        return content

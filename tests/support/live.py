"""Live streams without Kafka: topics in memory, under the contract tests of the real ones; a reader of events."""

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from producers.gateway.live.positions import Place, Positions
from producers.gateway.live.records import Gap, Record, record
from producers.gateway.live.source import Delivery, Opened, PastUnavailable

AT_A_TIME = 3
"""Records that the past gives at once: few, so that tests see the seams."""


class MemorySource:
    """A `Source` on lists. `append`, `delete` and `recreate` do what brokers do; call them in the event loop."""

    def __init__(self, *places: Place) -> None:
        self.logs: dict[Place, list[bytes | None]] = {place: [] for place in places or (Place("results", 0),)}
        self.low: dict[Place, int] = dict.fromkeys(self.logs, 0)
        self._followers: list[Callable[[Delivery], None]] = []
        self.away = False
        self.opened = self.closed = 0

    def follow(self, deliver: Callable[[Delivery], None]) -> None:
        self._followers.append(deliver)
        if not self.away:
            deliver(Delivery({place: len(log) for place, log in self.logs.items()}, []))

    def stop(self) -> None:
        self._followers.clear()

    async def open(self, positions: Positions) -> Opened:
        await asyncio.sleep(0)
        if self.away:
            raise PastUnavailable("away")
        begin, gaps = {}, []
        for place, offset in positions.items():
            low, high = self.low[place], len(self.logs[place])
            begin[place] = low if offset > high else max(low, offset)
            if offset > high:
                gaps.append(Gap("reset", 0))
            elif offset < low:
                gaps.append(Gap("retention", low - offset))
        self.opened += 1
        return Opened(MemoryPast(self, dict(begin)), begin, gaps)

    def append(self, place: Place, *values: bytes | None) -> None:
        first = len(self.logs[place])
        self.logs[place] += values
        self._deliver([record(place, first + number, value) for number, value in enumerate(values)])

    def delete(self, place: Place, before: int) -> None:
        """As retention does."""
        self.low[place] = before

    def recreate(self, place: Place, *values: bytes) -> None:
        """As somebody does who deletes a topic and creates it again."""
        self.logs[place] = list(values)
        self.low[place] = 0
        for deliver in self._followers:
            deliver(Delivery({place: 0}, [], lost=True))
        self._deliver([record(place, number, value) for number, value in enumerate(values)])

    def _deliver(self, records: list[Record]) -> None:
        for deliver in self._followers:
            deliver(Delivery({}, records))


class MemoryPast:
    def __init__(self, source: MemorySource, positions: Positions) -> None:
        self._source = source
        self._positions = positions

    async def read(self) -> tuple[list[Record], Positions]:
        await asyncio.sleep(0)
        records = []
        for place, offset in self._positions.items():
            if offset < self._source.low[place]:
                raise PastUnavailable("deleted")
            values = self._source.logs[place][offset : offset + AT_A_TIME]
            records += [record(place, offset + number, value) for number, value in enumerate(values)]
            self._positions[place] = offset + len(values)
        return records, dict(self._positions)

    async def close(self) -> None:
        self._source.closed += 1


class Event(NamedTuple):
    """A server-sent event, or a block of comments and fields without data (`name` is empty)."""

    name: str
    id: str
    data: Any


class EventReader:
    """Reads server-sent events from pieces, as the standard says."""

    def __init__(self) -> None:
        self._text = ""
        self.last_id = ""
        self.comments: list[str] = []

    def feed(self, piece: bytes) -> Iterable[Event]:
        self._text += piece.decode()
        *blocks, self._text = self._text.split("\n\n")
        return [self._event(block) for block in blocks]

    def _event(self, block: str) -> Event:
        name, data = "", []
        for line in block.split("\n"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not field:
                self.comments.append(value)
            elif field == "id":
                self.last_id = value
            elif field == "event":
                name = value
            elif field == "data":
                data.append(value)
            else:
                assert field == "retry", line
        return Event(name if data else "", self.last_id, json.loads("\n".join(data)) if data else None)

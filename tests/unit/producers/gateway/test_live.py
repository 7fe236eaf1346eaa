"""Live streams in memory: resume without a hole or a duplicate, gaps, filters and limits."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from producers.gateway.live import subscription
from producers.gateway.live.backlog import Backlog
from producers.gateway.live.hub import Hub
from producers.gateway.live.positions import Place, event_id, read_event_id
from producers.gateway.live.records import record
from producers.gateway.live.source import Delivery
from producers.gateway.live.subscription import Subscription
from producers.gateway.problems import Problem
from tests.support.live import Event, EventReader, MemorySource

R0, R1, E0 = Place("results", 0), Place("results", 1), Place("events", 0)
RESULTS = frozenset({"results"})


def value(number: int, model: str = "line") -> bytes:
    return json.dumps({"type": "prediction.completed.v1", "model": model, "n": number}).encode()


class Client:
    """A subscriber that takes events when it is told to."""

    def __init__(self, hub: Hub, last_id: str = "", streams: Any = RESULTS, models: Any = frozenset()) -> None:
        self.hub = hub
        asked = read_event_id(last_id) if last_id else None
        self._events = Subscription(hub, streams, models, asked).events()
        self._reader = EventReader()
        self.last_id = last_id
        self._left: list[Event] = []

    async def take(self, count: int) -> list[Event]:
        """So many events with data."""
        found: list[Event] = []
        async with asyncio.timeout(10):
            while True:
                while self._left and len(found) < count:
                    found.append(self._left.pop(0))
                if len(found) == count:
                    if found:
                        self.last_id = found[-1].id
                    return found
                self._left += [one for one in self._reader.feed(await anext(self._events)) if one.name]

    async def numbers(self, count: int) -> list[int]:
        found = await self.take(count)
        assert {one.name for one in found} == {"result"}
        return [one.data["n"] for one in found]

    async def begin(self) -> "Client":
        self._reader.feed(await anext(self._events))
        self.last_id = self._reader.last_id
        return self

    async def leave(self) -> str:
        await self._events.aclose()
        return self.last_id


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


def new_hub(source: MemorySource, max_records: int = 1_000) -> Hub:
    return Hub(source, max_records, 10, 10)


def test_new_events_in_the_order_of_their_partition() -> None:
    async def test() -> None:
        source = MemorySource(R0, R1)
        source.logs[R0].append(value(-1))
        hub = new_hub(source)
        await hub.admit("a")
        client = await Client(hub).begin()
        source.append(R0, value(0), value(1))
        source.append(R1, value(10))
        assert await client.numbers(3) == [0, 1, 10]
        assert client.last_id == "r0:3,r1:1"

    run(test)


@pytest.mark.parametrize("backlog", [1_000, 12])
def test_a_client_that_comes_and_goes_gets_each_event_once(backlog: int) -> None:
    """Whatever it missed comes from the topics if the backlog has dropped it; on any gateway."""

    async def test() -> None:
        source = MemorySource(R0, R1)
        hubs = [new_hub(source, backlog), new_hub(source, backlog)]
        for hub in hubs:
            await hub.admit("a")
        client = await Client(hubs[0]).begin()
        wanted: dict[int, list[int]] = {0: [], 1: []}
        got: list[int] = []
        number = 0
        for turn in range(12):
            for _ in range(5 + turn):
                place = R0 if number % 3 else R1
                source.append(place, value(number))
                wanted[place.partition].append(number)
                number += 1
            # It takes a part of them, and goes.
            got += await client.numbers(4 if turn < 11 else number - len(got))
            client = Client(hubs[turn % 2], await client.leave())
        await client.leave()
        assert sorted(got) == list(range(number))
        assert [one for one in got if one % 3] == wanted[0]
        assert source.opened == source.closed

    run(test)


def test_a_slow_client_is_told_what_it_misses() -> None:
    """The backlog has dropped it: a gap with the id from where it can be had, and then what is new."""

    async def test() -> None:
        source = MemorySource(R0)
        hub = new_hub(source, 11)
        await hub.admit("a")
        client = await Client(hub).begin()
        source.append(R0, *map(value, range(50)))
        gap, first = await client.take(2)
        assert gap.name == "gap"
        assert gap.data == {"reason": "overflow", "offsets": 40, "resume_from": "r0:0"}
        assert first.data["n"] == 40
        assert await client.numbers(9) == list(range(41, 50))
        assert hub.overflows == 1
        again = Client(hub, gap.data["resume_from"])
        assert await again.numbers(50) == list(range(50))

    run(test)


def test_what_retention_has_deleted_is_a_gap() -> None:
    async def test() -> None:
        source = MemorySource(R0)
        source.logs[R0] += map(value, range(30))
        source.delete(R0, 20)
        hub = new_hub(source)
        await hub.admit("a")
        client = Client(hub, "r0:5")
        gap, first = await client.take(2)
        assert (gap.name, gap.data) == ("gap", {"reason": "retention", "offsets": 15})
        assert gap.id == "r0:20"
        assert first.data["n"] == 20
        # Deleted while it reads: it looks again.
        source.delete(R0, 28)
        assert [one.name for one in await client.take(5)].count("gap") == 1

    run(test)


def test_a_topic_that_is_created_anew() -> None:
    async def test() -> None:
        source = MemorySource(R0)
        source.logs[R0] += map(value, range(30))
        hub = new_hub(source)
        await hub.admit("a")
        client = await Client(hub).begin()
        source.append(R0, value(30))
        assert await client.numbers(1) == [30]
        source.recreate(R0, value(100), value(101))
        gap, *events = await client.take(3)
        assert (gap.name, gap.data["reason"]) == ("gap", "reset")
        assert [one.data["n"] for one in events] == [100, 101]
        source.append(R0, value(102))
        assert await client.numbers(1) == [102]

    run(test)


def test_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    """By stream and by model; with the pings a client resumes behind what was not for it."""
    monkeypatch.setattr(subscription, "PING_SECONDS", 0.01)

    async def test() -> None:
        source = MemorySource(R0, E0)
        hub = new_hub(source)
        await hub.admit("a")
        diamonds = await Client(hub, models=frozenset({"diamonds"})).begin()
        both = await Client(hub, streams=frozenset({"results", "events"})).begin()
        source.append(R0, value(1), value(2, "diamonds"), value(3), b"no json", None)
        source.append(E0, b'{"type":"drift.detected.v1",\n"model":"line"}')
        assert await diamonds.numbers(1) == [2]
        names = [one.name for one in await both.take(4)]
        assert names == ["result"] * 3 + ["model_event"]
        assert both.last_id == "e0:1,r0:5"
        reader = EventReader()
        async with asyncio.timeout(10):
            while reader.last_id != "r0:5":
                reader.feed(await anext(diamonds._events))
        assert "ping" in reader.comments

    run(test)


def test_a_new_partition_is_read_from_its_start() -> None:
    async def test() -> None:
        source = MemorySource(R0)
        hub = new_hub(source)
        await hub.admit("a")
        client = await Client(hub).begin()
        source.logs[R1], source.low[R1] = [], 0
        source._followers[0](Delivery({R1: 0}, []))
        source.append(R1, value(7))
        assert await client.numbers(1) == [7]
        # One that was away when it came has its records too.
        late = new_hub(source)
        await late.admit("a")
        assert await Client(late, "r0:0").numbers(1) == [7]

    run(test)


def test_the_broker_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that needs the past waits for it; a new one is refused."""
    monkeypatch.setattr("producers.gateway.live.hub._READY_SECONDS", 0.05)
    monkeypatch.setattr(subscription, "_RETRY_SECONDS", 0.01)

    async def test() -> None:
        source = MemorySource(R0)
        source.logs[R0] += map(value, range(3))
        hub = new_hub(source)
        await hub.admit("a")
        source.away = True
        client = Client(hub, "r0:0")
        await client.begin()
        asking = asyncio.ensure_future(client.numbers(3))
        await asyncio.sleep(0.05)
        assert not asking.done()
        source.away = False
        assert await asking == [0, 1, 2]
        source.away = True
        with pytest.raises(Problem, match="does not respond"):
            await new_hub(source).admit("a")

    run(test)


def test_limits_and_the_end() -> None:
    async def test() -> None:
        source = MemorySource(R0)
        hub = Hub(source, 100, 3, 2)
        await hub.admit("a")
        await hub.admit("a")
        with pytest.raises(Problem, match="2 live streams") as found:
            await hub.admit("a")
        assert found.value.status == 429
        await hub.admit("b")
        with pytest.raises(Problem) as found:
            await hub.admit("c")
        assert found.value.status == 503
        hub.release("a")
        await hub.admit("c")
        client = await Client(hub).begin()
        waiting = asyncio.ensure_future(anext(client._events))
        await asyncio.sleep(0)
        hub.drain()
        with pytest.raises(StopAsyncIteration):
            await asyncio.wait_for(waiting, 5)
        with pytest.raises(Problem, match="ends"):
            await hub.admit("d")
        hub.close()
        assert source._followers == []

    run(test)


def test_the_backlog_is_bounded_in_bytes() -> None:
    backlog = Backlog(100, 1_000)
    backlog.add_places({R0: 0})
    backlog.add(record(R0, number, b'{"type":"t","model":"m","x":"%s"}' % (b"x" * 200)) for number in range(50))
    kept = backlog.get(backlog.first, 100)
    assert 1 <= len(kept) <= 4
    assert backlog.start == {R0: kept[0].offset}
    backlog.add([record(R0, 50, b'{"type":"t","model":"m","x":"%s"}' % (b"x" * 2_000))])
    assert backlog.get(backlog.first, 100) == []
    assert backlog.start == backlog.end == {R0: 51}


def test_ids_of_events() -> None:
    positions = {R0: 17, R1: 4, E0: 2}
    assert event_id(positions) == "r0:17,r1:4,e0:2"
    assert read_event_id(event_id(positions)) == positions
    for wrong in ("", "x", "r0:1,r0:2", "r0:-1", "r:1", "r0:1,", "r0:01", "m0:" + "9" * 30, "r0:1," * 20_000):
        with pytest.raises(ValueError, match=r"."):
            read_event_id(wrong)

"""What live streams expect of their source: on Kafka, with every kind of broker, and in memory."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from inflight.settings import Settings
from machine_learning_engineering.kafka.client import client_options, producer_options, topic_name
from producers.gateway.live.hub import Hub
from producers.gateway.live.kafka_source import KafkaSource
from producers.gateway.live.positions import TOPICS, Place, read_event_id
from producers.gateway.live.source import Delivery, Source
from producers.gateway.live.subscription import Subscription
from tests.support.live import EventReader, MemorySource
from tests.support.waiting import until_true

SECONDS = 60.0
R0, R1, E0 = Place("results", 0), Place("results", 1), Place("events", 0)


def value(number: int) -> bytes:
    return json.dumps({"type": "prediction.completed.v1", "model": "line", "n": number}).encode()


class Deployment(Protocol):
    """A source's other side."""

    def source(self) -> Source: ...
    async def append(self, place: Place, *numbers: int) -> None: ...
    async def delete(self, place: Place, before: int) -> None: ...
    async def close(self) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self._source = MemorySource(R0, R1, E0)

    def source(self) -> Source:
        return self._source

    async def append(self, place: Place, *numbers: int) -> None:
        self._source.append(place, *map(value, numbers))

    async def delete(self, place: Place, before: int) -> None:
        self._source.delete(place, before)

    async def close(self) -> None:
        pass


class OnKafka:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = Producer(producer_options(settings))
        self._sources: list[KafkaSource] = []

    def source(self) -> Source:
        self._sources.append(KafkaSource(self._settings))
        return self._sources[-1]

    async def append(self, place: Place, *numbers: int) -> None:
        for number in numbers:
            # With a key: a topic that is compacted refuses records without.
            self._producer.produce(self._topic(place), value(number), str(number), partition=place.partition)
        assert await asyncio.to_thread(self._producer.flush, SECONDS) == 0

    async def delete(self, place: Place, before: int) -> None:
        admin = AdminClient(client_options(self._settings))
        for future in admin.delete_records([TopicPartition(self._topic(place), place.partition, before)]).values():
            await asyncio.to_thread(future.result, SECONDS)

    async def close(self) -> None:
        for one in self._sources:
            await asyncio.to_thread(one.close, 10)

    def _topic(self, place: Place) -> str:
        return topic_name(self._settings, TOPICS[place.stream])


@pytest.fixture
def deployment(each_stream: Settings | None) -> Deployment:
    """Each kind in turn."""
    return InMemory() if each_stream is None else OnKafka(each_stream)


def run(deployment: Deployment, test: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        try:
            await test()
        finally:
            await deployment.close()

    asyncio.run(whole())


def numbers(records: Any) -> list[int]:
    return [json.loads(one.text.partition(b"data: ")[2])["n"] for one in records]


def test_what_is_new(deployment: Deployment) -> None:
    """First the ends of the partitions, then what comes behind them, in the order of each."""

    async def test() -> None:
        await deployment.append(R0, 1, 2)
        source = deployment.source()
        found: list[Delivery] = []
        source.follow(found.append)
        await until_true(lambda: found, "the partitions are known")
        assert {R0: 2, R1: 0, E0: 0}.items() <= found[0].places.items()
        assert found[0].records == []
        await deployment.append(R0, 3, 4)
        await deployment.append(E0, 5)
        records = await until_true(
            lambda: (all_ := [r for d in found for r in d.records]) and len(all_) == 3 and all_, "3"
        )
        assert [one.offset for one in records if one.place == R0] == [2, 3]
        assert sorted(numbers(records)) == [3, 4, 5]
        assert not any(one.lost for one in found)
        source.stop()
        count = len(found)
        await deployment.append(R0, 6)
        await asyncio.sleep(0.5)
        assert len(found) == count

    run(deployment, test)


def test_what_was_before(deployment: Deployment) -> None:
    """From given positions to the end, and on: what comes meanwhile is read too."""

    async def test() -> None:
        await deployment.append(R0, *range(10))
        source = deployment.source()
        opened = await source.open({R0: 4, R1: 0})
        assert (opened.positions, opened.gaps) == ({R0: 4, R1: 0}, [])
        records: list[Any] = []
        behind = dict(opened.positions)

        async def read_to(wanted: int) -> None:
            deadline = time.monotonic() + SECONDS
            while behind[R0] < wanted:
                assert time.monotonic() < deadline
                found, positions = await opened.past.read()
                records.extend(found)
                behind.update(positions)

        await read_to(10)
        await deployment.append(R0, 10)
        await read_to(11)
        assert numbers(records) == list(range(4, 11))
        assert behind == {R0: 11, R1: 0}
        await opened.past.close()

    run(deployment, test)


def test_what_is_not_there_any_more(deployment: Deployment, request: pytest.FixtureRequest) -> None:
    if "embedded" in request.node.name:
        pytest.skip("the embedded node deletes no records")

    async def test() -> None:
        await deployment.append(R0, *range(10))
        await deployment.delete(R0, 6)
        source = deployment.source()
        opened = await source.open({R0: 2, R1: 5})
        assert opened.positions == {R0: 6, R1: 0}
        assert [(gap.reason, gap.offsets) for gap in opened.gaps] == [("retention", 4), ("reset", 0)]
        records: list[Any] = []
        while len(records) < 4:
            records += (await opened.past.read())[0]
        assert numbers(records) == [6, 7, 8, 9]
        await opened.past.close()

    run(deployment, test)


def test_a_client_that_comes_and_goes(deployment: Deployment) -> None:
    """Between two gateways whose backlogs hold next to nothing: each event once."""

    async def test() -> None:
        hubs = [Hub(deployment.source(), 10, 5, 5) for _ in range(2)]
        for hub in hubs:
            await hub.admit("a")
        last, got, sent = "", [], 0
        for turn in range(5):
            asked = read_event_id(last) if last else None
            events = Subscription(hubs[turn % 2], frozenset({"results"}), frozenset(), asked).events()
            reader = EventReader()
            reader.feed(await anext(events))
            for place in (R0, R1):
                await deployment.append(place, *range(sent, sent + 4))
                sent += 4
            wanted = sent - 3 if turn < 4 else sent
            async with asyncio.timeout(SECONDS):
                while len(got) < wanted:
                    for event in reader.feed(await anext(events)):
                        if event.name and len(got) < wanted:
                            assert event.name == "result"
                            got.append(event.data["n"])
                            last = event.id
            await events.aclose()
        assert sorted(got) == list(range(sent))
        for hub in hubs:
            hub.release("a")
            hub.close()

    run(deployment, test)

"""What the gateway expects of its stream: the one on Kafka, with every kind of broker, and the one in memory alike."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions

from inflight.settings import Settings
from machine_learning_engineering.events.headers import FINGERPRINT, carried, headers_of
from machine_learning_engineering.events.topics import LABELS, REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import client_options, producer_options, read_to_end, topic_name
from producers.gateway.kafka_stream import KafkaStream
from producers.gateway.stream import NewRequest, NotAccepted, Stream
from tests.support.gateway import MemoryStream, Topics
from tests.support.waiting import until_true

SECONDS = 60.0


class Deployment(Protocol):
    """A stream's other side: gateways, a worker that answers when it is told to, and other senders."""

    def gateway(self, **settings: Any) -> Stream: ...
    def close(self, stream: Stream) -> None: ...
    def answer(self, request: NewRequest, value: bytes) -> None: ...
    def other_sender(self) -> None: ...
    def labels(self) -> list[bytes]: ...


class InMemory:
    def __init__(self) -> None:
        self._topics = Topics()

    def gateway(self, **settings: Any) -> Stream:
        return MemoryStream(self._topics, settings.get("gateway_recall_bytes", 1 << 20))

    def close(self, stream: Stream) -> None:
        assert isinstance(stream, MemoryStream)
        self._topics.streams.remove(stream)

    def answer(self, request: NewRequest, value: bytes) -> None:
        self._topics.answer(request, value)

    def other_sender(self) -> None:
        pass

    def labels(self) -> list[bytes]:
        return self._topics.labels


class OnKafka:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._producer = Producer(producer_options(settings))

    def gateway(self, **settings: Any) -> Stream:
        return KafkaStream(self.settings.model_copy(update=settings))

    def close(self, stream: Stream) -> None:
        assert isinstance(stream, KafkaStream)
        stream.close()

    def answer(self, request: NewRequest, value: bytes) -> None:
        """As the worker does: with the key, in the partition of the same number, with the headers it carries."""
        found = [one for one in read_to_end(self.settings, REQUESTS) if one.value() == request.value]
        headers = carried(headers_of(found[0]), event_type="t", event_id="i")
        name = topic_name(self.settings, RESULTS)
        self._producer.produce(name, value, found[0].key(), found[0].partition(), headers=headers)
        assert self._producer.flush(SECONDS) == 0

    def other_sender(self) -> None:
        """Records of others: without headers, with a header that is no fingerprint, and no JSON."""
        other = b'{"request_id":"other","model":"line","features":{}}'
        for topic in (REQUESTS, RESULTS):
            name = topic_name(self.settings, topic)
            self._producer.produce(name, other, b"k")
            self._producer.produce(name, other, b"k", headers=[("traceparent", b"x"), (FINGERPRINT, b"")])
            self._producer.produce(name, b"{", b"k", headers=[(FINGERPRINT, b"f")])
            self._producer.produce(name, None, b"k", headers=[(FINGERPRINT, None)])
        assert self._producer.flush(SECONDS) == 0

    def labels(self) -> list[bytes]:
        return [one.value() for one in read_to_end(self.settings, LABELS)]


@pytest.fixture
def deployment(each_stream: Settings | None) -> Deployment:
    """Each kind in turn."""
    return InMemory() if each_stream is None else OnKafka(each_stream)


def new(name: str, fingerprint: str = "f" * 32) -> NewRequest:
    value = b'{"type":"prediction.requested.v1","request_id":"%s","model":"line","features":{"n":1}}'
    value = value.replace(b"%s", name.encode())
    return NewRequest(name, name.encode(), value, fingerprint, [(FINGERPRINT, fingerprint.encode())])


def result(name: str, answer: int = 2) -> bytes:
    return b'{"type":"prediction.completed.v1","request_id":"%s","model":"line","prediction":{"a":%d}}' % (
        name.encode(),
        answer,
    )


async def ready(deployment: Deployment, **settings: Any) -> Stream:
    stream = deployment.gateway(**settings)
    await until_true(lambda: not stream.problem, "the stream is ready")
    return stream


async def published(stream: Stream, *requests: NewRequest) -> None:
    """Publish, again where the broker took its time."""

    async def publish(request: NewRequest) -> None:
        while (await stream.publish([request]))[0] is not None:
            await asyncio.sleep(0.1)

    await asyncio.wait_for(asyncio.gather(*map(publish, requests)), SECONDS)


async def told(deployment: Deployment, action: Callable[..., None], *arguments: Any) -> None:
    """Do something on the other side; in a thread if that waits for the broker."""
    if isinstance(deployment, InMemory):
        action(*arguments)
    else:
        await asyncio.to_thread(action, *arguments)


def run(deployment: Deployment, scenario: Callable[[list[Stream]], Awaitable[None]]) -> None:
    """Run a scenario; the streams that it puts into the list are closed at the end."""
    streams: list[Stream] = []

    async def call() -> None:
        try:
            await scenario(streams)
        finally:
            for stream in streams:
                with suppress(ValueError):
                    await asyncio.to_thread(deployment.close, stream)

    coroutine: Coroutine[Any, Any, None] = call()
    asyncio.run(coroutine)


def test_a_result_reaches_who_waits_for_it(deployment: Deployment) -> None:
    """Also the very first one, of a request that is sent as soon as the stream is ready."""

    async def scenario(streams: list[Stream]) -> None:
        streams.append(stream := await ready(deployment))
        future = stream.claim("r", "line", "f" * 32)
        await published(stream, new("r"))
        await told(deployment, deployment.answer, new("r"), result("r"))
        entry = await asyncio.wait_for(future, SECONDS)
        assert entry.result == result("r")
        stream.release("r", future, published=True)

    run(deployment, scenario)


def test_every_gateway_knows_every_gateways_requests(deployment: Deployment) -> None:
    """Which run, and which are done; also one that starts later."""

    async def scenario(streams: list[Stream]) -> None:
        streams += [await ready(deployment), await ready(deployment)]
        one, other = streams
        await published(one, new("done"), new("runs"))
        await told(deployment, deployment.answer, new("done"), result("done"))
        streams.append(later := await ready(deployment))
        for stream in (one, other, later):
            entry = await until_true(lambda stream=stream: stream.known("done"), "the request is known")
            await until_true(lambda entry=entry: not entry.is_running, "its result is known")
            assert await stream.read_result(entry) == result("done")
            running = await until_true(lambda stream=stream: stream.known("runs"), "the other one is known")
            assert running.is_running
            assert (running.model, running.fingerprint) == ("line", "f" * 32)
            assert stream.known("other") is None

    run(deployment, scenario)


def test_the_first_result_counts_for_all(deployment: Deployment) -> None:
    """A second one, as after a kill of the worker, changes nothing."""

    async def scenario(streams: list[Stream]) -> None:
        streams.append(stream := await ready(deployment))
        await published(stream, new("r"), new("last"))
        for answer in (2, 3):
            await told(deployment, deployment.answer, new("r"), result("r", answer))
        streams.append(later := await ready(deployment))
        for one in streams:
            entry = await until_true(lambda one=one: one.known("r"), "it is known")
            await until_true(lambda entry=entry: not entry.is_running, "it has a result")
            assert await one.read_result(entry) == result("r", 2)
        assert later.known("last") is not None

    run(deployment, scenario)


def test_a_result_that_is_not_kept_is_read_again(deployment: Deployment) -> None:
    async def scenario(streams: list[Stream]) -> None:
        streams.append(stream := await ready(deployment, gateway_recall_bytes=1))
        await published(stream, new("a"), new("b"))
        for name in ("a", "b"):
            await told(deployment, deployment.answer, new(name), result(name))
        for name in ("a", "b"):
            entry = await until_true(lambda name=name: stream.known(name), "it is known")
            await until_true(lambda entry=entry: not entry.is_running, "it has a result")
            assert entry.result is None
            assert await stream.read_result(entry) == result(name)

    run(deployment, scenario)


def test_records_of_others_are_no_concern(deployment: Deployment) -> None:
    async def scenario(streams: list[Stream]) -> None:
        streams.append(stream := await ready(deployment))
        await told(deployment, deployment.other_sender)
        future = stream.claim("r", "line", "f" * 32)
        await published(stream, new("r"))
        await told(deployment, deployment.answer, new("r"), result("r"))
        await asyncio.wait_for(future, SECONDS)
        assert stream.known("other") is None

    run(deployment, scenario)


def test_labels(deployment: Deployment) -> None:
    async def scenario(streams: list[Stream]) -> None:
        streams.append(stream := await ready(deployment))
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                await stream.publish_label(b"r", b'{"label":1}')
                break
            except NotAccepted:
                assert time.monotonic() < deadline

    run(deployment, scenario)
    assert b'{"label":1}' in deployment.labels()


def test_a_partition_that_is_added_is_used_once_it_is_read(settings: Settings, each_broker: Any) -> None:
    """Its results arrive, too: nothing is sent to a partition before its position is known."""
    deployment = OnKafka(settings)

    async def scenario(streams: list[Stream]) -> None:
        streams.append(stream := await ready(deployment))
        assert isinstance(stream, KafkaStream)
        admin = AdminClient(client_options(settings))
        more = settings.topic_partitions + 2
        for topic in (REQUESTS, RESULTS):
            for future in admin.create_partitions([NewPartitions(topic_name(settings, topic), more)]).values():
                await asyncio.to_thread(future.result)
        await until_true(lambda: stream._tail.partitions == more, "the new partitions are used")
        requests = [new(f"n{number}") for number in range(12)]
        futures = [stream.claim(one.request_id, "line", one.fingerprint) for one in requests]
        await published(stream, *requests)
        found = await asyncio.to_thread(lambda: list(read_to_end(settings, REQUESTS)))
        assert {one.partition() for one in found} & {more - 2, more - 1}
        for request in requests:
            await told(deployment, deployment.answer, request, result(request.request_id))
        await asyncio.wait_for(asyncio.gather(*futures), SECONDS)

    run(deployment, scenario)

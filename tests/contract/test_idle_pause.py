"""The embedded broker answers an empty fetch at once: consumers pause, and yet receive a record in milliseconds."""

import itertools
import json
import os
import statistics
import threading
import time
from collections.abc import Iterator

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from inflight.settings import Settings
from inflight.stack.embedded import EmbeddedNode
from inflight.stack.stack import IDLE_PAUSE
from machine_learning_engineering.events.topics import REQUESTS
from machine_learning_engineering.kafka.client import client_options, consumer_options, create_topics, topic_name
from machine_learning_engineering.kafka.idle import IdlePausingConsumer
from tests.support.waiting import figures, until


@pytest.fixture
def settings(nodes: object) -> Settings:
    node: EmbeddedNode = nodes("broker", "embedded")  # type: ignore[operator]
    prefix = f"idle{time.monotonic_ns()}-"
    servers = node.bootstrap_servers
    found = Settings(
        _env_file=None,  # type: ignore[call-arg]
        kafka_bootstrap_servers=servers,
        topic_prefix=prefix,
        kafka_idle_pause=IDLE_PAUSE,
    )
    create_topics(found)
    return found


class Reader(threading.Thread):
    """Polls as the processes do, for so many records and seconds at most, in turn; when it received which record."""

    def __init__(self, settings: Settings, *polls: tuple[int, float]) -> None:
        super().__init__(daemon=True)
        self.polls = itertools.cycle(polls)
        self.topic = topic_name(settings, REQUESTS)
        self.received: dict[bytes, float] = {}
        self.stopping = threading.Event()
        self.consumer = Consumer(consumer_options(settings, "idle"))
        self.consumer.subscribe([self.topic])
        self.fetch = IdlePausingConsumer(self.consumer, settings.kafka_idle_pause)

    def run(self) -> None:
        while not self.stopping.is_set():
            for message in self.fetch.consume(*next(self.polls)):
                if message.error() is None:
                    self.received[message.value()] = time.perf_counter()
        self.consumer.close()


@pytest.fixture(params=[[(1, 0.1)], [(100, 1.0)], [(1, 0.25), (500, 0)]], ids=["one", "many", "one-and-the-rest"])
def reader(settings: Settings, request: pytest.FixtureRequest) -> Iterator[Reader]:
    found = Reader(settings, *request.param)
    found.start()
    yield found
    found.stopping.set()
    found.join(60)


def test_one_record_at_a_time_is_handed_over_in_milliseconds(settings: Settings, reader: Reader) -> None:
    """As `inflight up` exports the pause; and an idle consumer takes little of a core."""
    producer = Producer(client_options(settings) | {"linger.ms": 0})

    def send(value: bytes) -> float:
        sent = time.perf_counter()
        producer.produce(reader.topic, value, value)
        until(lambda: producer.poll(0.0005) >= 0 and value in reader.received, 60, "the record is received")
        return reader.received[value] - sent

    send(b"first")
    seconds = [send(json.dumps(number).encode()) for number in range(50)]
    process = psutil.Process(os.getpid())
    before, began = process.cpu_times(), time.monotonic()
    reader.stopping.wait(3)
    after = process.cpu_times()
    cores = (after.user + after.system - before.user - before.system) / (time.monotonic() - began)
    after_idleness = send(b"last")
    figures(median=statistics.median(seconds), after_idleness=after_idleness, cores=cores)
    # On an idle machine 2 ms, 12 ms and 0.02 cores.
    assert statistics.median(seconds) < 0.1
    assert after_idleness < 0.6
    assert cores < 0.3


def test_a_consumer_whose_partitions_were_revoked_at_their_end_goes_on(settings: Settings) -> None:
    """Between two assignments it has none: a rebalance may take its time."""
    topic = topic_name(settings, REQUESTS)
    producer = Producer(client_options(settings) | {"linger.ms": 0})
    consumer = Consumer(consumer_options(settings, "revoked"))
    fetch = IdlePausingConsumer(consumer, settings.kafka_idle_pause)
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        # One call at a time without a pause: the end is known, and nothing has been cleared.
        until(lambda: any(one.error() is not None for one in fetch.consume(1, 0.1, may_pause=False)), 60, "its end")
        consumer.unassign()
        assert fetch.consume(1, 0.1) == []
        consumer.assign([TopicPartition(topic, 0, 0)])
        producer.produce(topic, b"later", partition=0)
        assert producer.flush(60) == 0
        until(lambda: [one.value() for one in fetch.consume(1, 0.1) if one.error() is None] == [b"later"], 60, "read")
    finally:
        consumer.close()

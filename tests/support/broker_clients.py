"""Clients of a broker, over librdkafka and over kafka-python: who publishes, and a member of a group."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from kafka import KafkaProducer

from inflight.settings import Settings
from machine_learning_engineering.events.topics import MEBIBYTE, REQUESTS
from machine_learning_engineering.kafka.client import client_options, consumer_options, producer_options, topic_name
from tests.support.waiting import until

SESSION_TIMEOUT_MS = 6_000
ALL = set(range(4))
"""The partitions of each topic."""
Send = Callable[..., None]


def set_topic(settings: Settings, topic: str, setting: str, value: str) -> None:
    """Change a setting of a topic, as an operator does; returns when the broker tells it."""
    admin, name = AdminClient(client_options(settings)), topic_name(settings, topic)
    entry = ConfigEntry(setting, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result()

    def is_known() -> bool:
        (told,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name)]).values()
        return bool(told.result()[setting].value == value)

    until(is_known, 60, f"the broker tells {setting}={value}")


@contextmanager
def confluent_sender(settings: Settings) -> Iterator[Send]:
    """`send(topic, value, key, headers, timestamp_ms)` over librdkafka; returns when acknowledged, raises the error."""
    producer = Producer({**producer_options(settings), "linger.ms": 0})

    def send(topic: str, value: bytes, key: bytes | None = None, headers: Any = None, timestamp: int = 0) -> None:
        errors: list[KafkaError | None] = []
        producer.produce(
            topic, value, key, headers=headers, timestamp=timestamp, on_delivery=lambda error, _: errors.append(error)
        )
        assert producer.flush(120) == 0
        if errors[0] is not None:
            raise RuntimeError(errors[0].name())

    yield send


@contextmanager
def kafka_python_sender(settings: Settings) -> Iterator[Send]:
    """The same over kafka-python."""
    producer = KafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        acks="all",
        enable_idempotence=True,
        max_in_flight_requests_per_connection=1,
        retries=10,
        max_request_size=8 * MEBIBYTE,
    )

    def send(topic: str, value: bytes, key: bytes | None = None, headers: Any = None, timestamp: int = 0) -> None:
        future = producer.send(topic, value, key, headers=headers, timestamp_ms=timestamp or None)
        try:
            future.get(120)
        except Exception as error:
            raise RuntimeError(str(error)) from error

    try:
        yield send
    finally:
        producer.close(10)


class Member:
    """A member of a consumer group, polled by the test."""

    def __init__(self, settings: Settings, group: str, topic: str = REQUESTS) -> None:
        self.consumer = Consumer({**consumer_options(settings, group), "session.timeout.ms": SESSION_TIMEOUT_MS})
        self.seen: list[Message] = []
        self.consumer.subscribe([topic_name(settings, topic)])

    def poll(self) -> None:
        message = self.consumer.poll(0.1)
        if message is not None and message.error() is None:
            self.seen.append(message)

    @property
    def partitions(self) -> set[int]:
        return {assigned.partition for assigned in self.consumer.assignment()}

    def poll_until(self, condition: Callable[[], bool], *others: "Member", seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"assigned {self.partitions}, seen {len(self.seen)} after {seconds} s"
            for member in (self, *others):
                member.poll()

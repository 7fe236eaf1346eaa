"""What Inflight needs of a broker, on every kind of broker, with librdkafka and with kafka-python.

What the embedded broker lacks is a strict xfail: it fails as soon as a newer one can do it.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaConsumer, KafkaProducer

from machine_learning_engineering.kafka import (
    client_options,
    consumer_options,
    create_topics,
    end_offsets,
    producer_options,
    read_to_end,
    topic_name,
)
from machine_learning_engineering.settings import Settings
from machine_learning_engineering.topics import MEBIBYTE, REQUESTS, RESULTS

SESSION_TIMEOUT_MS = 6_000

Send = Callable[..., None]


@contextmanager
def confluent_sender(settings: Settings) -> Iterator[Send]:
    """`send(topic, value, key, headers, timestamp_ms)` over librdkafka; returns when acknowledged, raises the error."""
    producer = Producer({**producer_options(settings), "linger.ms": 0})

    def send(topic: str, value: bytes, key: bytes | None = None, headers: Any = None, timestamp: int = 0) -> None:
        errors: list[KafkaError | None] = []
        producer.produce(
            topic, value, key, headers=headers, timestamp=timestamp, on_delivery=lambda error, _: errors.append(error)
        )
        assert producer.flush(30) == 0
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
            future.get(30)
        except Exception as error:
            raise RuntimeError(str(error)) from error

    try:
        yield send
    finally:
        producer.close(10)


@pytest.fixture(params=[confluent_sender, kafka_python_sender], ids=["confluent", "kafka-python"])
def send(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Send]:
    with request.param(settings) as sender:
        yield sender


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

    def poll_until(self, condition: Callable[[], bool], seconds: float = 30.0, *others: "Member") -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"assigned {self.partitions}, seen {len(self.seen)} after {seconds} s"
            for member in (self, *others):
                member.poll()


@pytest.fixture
def member(settings: Settings) -> Iterator[Callable[..., Member]]:
    """`member(group)` joins a consumer group; whoever is still in one at the end of the test leaves it."""
    members: list[Member] = []

    def join(group: str, **options: Any) -> Member:
        members.append(Member(settings, group, **options))
        return members[-1]

    yield join
    for joined in members:
        joined.consumer.close()


ALL = set(range(4))


@pytest.mark.usefixtures("each_broker")
def test_a_record_comes_back_with_its_headers_and_a_null_key(settings: Settings, send: Send) -> None:
    """Value, null key, repeated and empty headers survive an acks=all idempotent publish."""
    headers = [("traceparent", b"00-ab-cd-01"), ("ce_source", b"/x"), ("ce_source", b"/y"), ("empty", b"")]
    send(topic_name(settings, RESULTS), b'{"a": 1}', None, headers)

    (message,) = read_to_end(settings, RESULTS)

    assert (message.value(), message.key(), message.headers()) == (b'{"a": 1}', None, headers)


@pytest.mark.usefixtures("each_broker")
def test_a_null_value_stays_null(settings: Settings, send: Send) -> None:
    """A tombstone is not an empty value."""
    send(topic_name(settings, RESULTS), None, b"key")
    send(topic_name(settings, RESULTS), b"", b"key")

    assert [message.value() for message in read_to_end(settings, RESULTS)] == [None, b""]


@pytest.mark.usefixtures("each_broker")
def test_records_of_a_key_keep_their_order(settings: Settings) -> None:
    """Records of one key are in one partition, in the order of publishing, while many are in flight."""
    producer = Producer(producer_options(settings))
    for number in range(1_000):
        producer.produce(topic_name(settings, REQUESTS), str(number), key=f"key-{number % 7}")
    assert producer.flush(30) == 0

    by_key: dict[bytes, list[tuple[int, int]]] = {}
    for message in read_to_end(settings, REQUESTS):
        by_key.setdefault(message.key(), []).append((message.partition(), int(message.value())))

    assert sum(map(len, by_key.values())) == 1_000
    for records in by_key.values():
        assert len({partition for partition, _ in records}) == 1
        assert [number for _, number in records] == sorted(number for _, number in records)


@pytest.mark.usefixtures("each_broker")
def test_kafka_python_reads_what_a_group_has_not_committed(settings: Settings, send: Send) -> None:
    """A consumer group of kafka-python resumes after its committed offset."""
    options = {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "group_id": topic_name(settings, "readers"),
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "consumer_timeout_ms": 20_000,
    }
    for number in range(4):
        send(topic_name(settings, REQUESTS), str(number).encode(), b"key")

    seen = []
    for _ in range(2):
        consumer = KafkaConsumer(topic_name(settings, REQUESTS), **options)
        try:
            # One commit after each second record: the other reader goes on from there.
            seen.append([next(consumer).value for _ in range(2)])
            consumer.commit()
        finally:
            consumer.close()

    assert seen == [[b"0", b"1"], [b"2", b"3"]]


@pytest.mark.parametrize("hard", [False, True], ids=["stopped", "killed"])
def test_a_group_goes_on_after_its_commit_when_the_broker_restarts(
    settings: Settings, each_broker: Any, request: pytest.FixtureRequest, hard: bool
) -> None:
    """Records and committed offsets survive a restart, also after kill -9."""
    if hard and each_broker.name == "embedded":
        reason = "the embedded broker saves itself every few seconds: killed in between it forgets what it acknowledged"
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))
    with confluent_sender(settings) as send:
        for number in range(6):
            send(topic_name(settings, REQUESTS), str(number).encode(), b"key")
        first = Member(settings, "workers")
        first.poll_until(lambda: len(first.seen) == 6)
        first.consumer.commit(message=first.seen[3], asynchronous=False)
        first.consumer.close()
        # Acknowledged a moment before the end: it has to be on disk by then.
        send(topic_name(settings, REQUESTS), b"6", b"key")

    each_broker.restart(hard=hard)

    assert sum(high for _, high in end_offsets(settings, REQUESTS).values()) == 7
    second = Member(settings, "workers")
    second.poll_until(lambda: len(second.seen) == 3)
    second.consumer.close()
    assert [message.value() for message in second.seen] == [b"4", b"5", b"6"]


@pytest.mark.usefixtures("each_broker")
def test_topics_are_created_once_with_their_configuration(settings: Settings) -> None:
    """Creating them again changes nothing, and each has the partitions that the settings say."""
    assert create_topics(settings) == []
    assert set(end_offsets(settings, REQUESTS)) == ALL


@pytest.mark.usefixtures("each_broker")
def test_a_compacted_topic_is_accepted(settings: Settings, send: Send) -> None:
    """Model events go to a compacted topic; both records of a key are readable before compaction."""
    admin = AdminClient(client_options(settings))
    name = topic_name(settings, "compacted")
    admin.create_topics([NewTopic(name, 1, 1, config={"cleanup.policy": "compact"})])[name].result()

    send(name, b"old", b"model")
    send(name, b"new", b"model")

    assert [message.value() for message in read_to_end(settings, "compacted")][-1] == b"new"


@pytest.mark.usefixtures("each_broker")
def test_a_request_of_three_megabytes_is_accepted(settings: Settings, send: Send) -> None:
    """The requests topic takes more than `max_request_bytes`, so that an oversize request becomes a dead letter."""
    value = os.urandom(3 * MEBIBYTE)
    send(topic_name(settings, REQUESTS), value, b"key")

    (message,) = read_to_end(settings, REQUESTS)

    assert message.value() == value


@pytest.mark.usefixtures("each_broker")
def test_a_request_above_the_topic_limit_is_refused(settings: Settings, send: Send) -> None:
    """Its producer sees the error, and nothing is stored."""
    with pytest.raises(RuntimeError, match=r"MSG_SIZE_TOO_LARGE|MessageSizeTooLarge"):
        send(topic_name(settings, REQUESTS), os.urandom(5 * MEBIBYTE), b"key")
    assert list(read_to_end(settings, REQUESTS)) == []


@pytest.mark.usefixtures("each_broker")
def test_the_broker_stamps_requests_with_its_own_clock(settings: Settings, send: Send) -> None:
    """The accepted time of a request doesn't depend on its producer's clock."""
    before = time.time() * 1000
    send(topic_name(settings, REQUESTS), b"x", b"key", timestamp=1_000_000)

    (message,) = read_to_end(settings, REQUESTS)

    kind, stamp = message.timestamp()
    assert kind == TIMESTAMP_LOG_APPEND_TIME
    assert before - 1_000 <= stamp <= time.time() * 1000 + 1_000


@pytest.mark.usefixtures("each_broker")
def test_other_topics_keep_the_time_of_the_producer(settings: Settings, send: Send) -> None:
    """A result carries the time that the worker gave it."""
    send(topic_name(settings, RESULTS), b"x", b"key", timestamp=1_700_000_000_123)

    (message,) = read_to_end(settings, RESULTS)

    assert message.timestamp() == (TIMESTAMP_CREATE_TIME, 1_700_000_000_123)


@pytest.mark.usefixtures("each_broker")
def test_partitions_move_when_a_member_leaves(member: Callable[..., Member]) -> None:
    """Two members share the partitions; when one leaves, the other has all."""
    first = member("workers")
    first.poll_until(lambda: first.partitions == ALL)
    second = member("workers")
    first.poll_until(lambda: len(first.partitions) == len(second.partitions) == 2, 30.0, second)
    assert first.partitions | second.partitions == ALL

    second.consumer.close()

    first.poll_until(lambda: first.partitions == ALL)


DYING_MEMBER = """
import sys
from confluent_kafka import Consumer
consumer = Consumer({"bootstrap.servers": sys.argv[1], "group.id": sys.argv[2], "session.timeout.ms": int(sys.argv[4])})
consumer.subscribe([sys.argv[3]])
while True:
    consumer.poll(0.1)
    if consumer.assignment():
        print("assigned", flush=True)
"""


@pytest.mark.embedded_gap(reason="the embedded broker does not drop a group member that died without leaving")
@pytest.mark.usefixtures("each_broker")
def test_partitions_move_when_a_member_dies(settings: Settings, member: Callable[..., Member]) -> None:
    """A member killed with -9 loses its partitions to the other after its session time-out."""
    group, topic = topic_name(settings, "workers"), topic_name(settings, REQUESTS)
    arguments = [settings.kafka_bootstrap_servers, group, topic, str(SESSION_TIMEOUT_MS)]
    command = [sys.executable, "-c", DYING_MEMBER, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"assigned\n"
            survivor = member("workers")
            survivor.poll_until(lambda: len(survivor.partitions) == 2)
        finally:
            other.send_signal(signal.SIGKILL)

    survivor.poll_until(lambda: survivor.partitions == ALL, seconds=SESSION_TIMEOUT_MS / 1000 + 10)


@pytest.mark.usefixtures("each_broker")
def test_an_aborted_transaction_is_invisible(settings: Settings, member: Callable[..., Member]) -> None:
    """A reader of committed records sees those of committed transactions, and the offsets go with them."""
    source = member("workers", topic=RESULTS)
    source.poll_until(lambda: source.partitions == ALL)
    # A transaction has to end before the broker gives it up, after a minute.
    options = {"transactional.id": f"t-{uuid.uuid4().hex}", "delivery.timeout.ms": 30_000}
    producer = Producer({**producer_options(settings), **options})
    producer.init_transactions(30)
    for value, finish in ((b"aborted", producer.abort_transaction), (b"committed", producer.commit_transaction)):
        producer.begin_transaction()
        producer.produce(topic_name(settings, REQUESTS), value, b"key")
        producer.flush(10)
        finish(30)

    reader = member("readers")
    reader.poll_until(lambda: len(reader.seen) >= 1)

    assert [message.value() for message in reader.seen] == [b"committed"]

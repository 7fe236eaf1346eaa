"""Kafka clients: options, topic creation, and reading a topic to its current end.

Needs the extra `kafka` (confluent-kafka).
"""

import logging
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, TopicMetadata

from machine_learning_engineering.events.topics import MAX_MESSAGE_BYTES, TOPICS
from machine_learning_engineering.kafka.connection import error_logger
from machine_learning_engineering.kafka.positions import is_end, is_unreadable, skip_unreadable
from machine_learning_engineering.settings import KernelSettings

_T = TypeVar("_T")

logger = logging.getLogger(__name__)
# In a command without a service log, the final error is enough; Python would print a line per attempt.
logger.addHandler(logging.NullHandler())

METADATA_REFRESH_SECONDS = 5.0
"""A new topic, or a new partition of one, is noticed after this time."""


def topic_name(settings: KernelSettings, name: str) -> str:
    """Return the name of a topic or consumer group in this deployment."""
    return settings.topic_prefix + name


def client_options(settings: KernelSettings) -> dict[str, Any]:
    """Return the librdkafka options of every client."""
    return {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        # librdkafka logs to standard error; errors reach the client's `error_cb` instead, see `consumer_options`.
        "log_level": 0,
        # With librdkafka's default, nobody would read the new partitions of a topic for up to five minutes.
        "topic.metadata.refresh.interval.ms": int(METADATA_REFRESH_SECONDS * 1000),
        **settings.kafka_options,
    }


def producer_options(settings: KernelSettings) -> dict[str, Any]:
    """Return the options of a durable producer: acks from all replicas, idempotent, bounded in time and memory."""
    return {
        # Outputs repeat what senders write, which may be large and highly repetitive.
        "compression.type": "lz4",
        **client_options(settings),
        "acks": "all",
        "enable.idempotence": True,
        "delivery.timeout.ms": int(settings.kafka_delivery_timeout * 1000),
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "queue.buffering.max.kbytes": 256 * 1024,
        "queue.buffering.max.messages": 1_000_000,
    }


def consumer_options(settings: KernelSettings, group: str) -> dict[str, Any]:
    """Return the options of a group consumer that starts at the beginning and commits explicitly.

    While polled, it logs connection errors.
    """
    return {
        **client_options(settings),
        "error_cb": error_logger(client_options(settings)),
        "group.id": topic_name(settings, group),
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        # See `kafka.positions.is_end`.
        "enable.partition.eof": True,
    }


def unpolled_consumer(settings: KernelSettings, group: str) -> Consumer:
    """Return a consumer that only asks for offsets: not polled, it would keep errors for its callback for ever."""
    options = consumer_options(settings, group)
    del options["error_cb"]
    return Consumer(options)


def send(
    producer: Producer, topic: str, value: bytes | None, key: bytes | None, timeout: float, **options: Any
) -> None:
    """Produce one record and wait until all in-sync replicas have it.

    Args:
        producer: Has the options of `producer_options`.
        topic: With the prefix.
        value: May be null, as the key may.
        key: Selects the partition.
        timeout: In seconds.
        options: Further ones of `Producer.produce`, such as headers.

    Raises:
        KafkaException: The broker rejects it.
        TimeoutError: It is not acknowledged within `timeout` seconds; it may still arrive.
    """
    outcome: list[KafkaError | None] = []
    producer.produce(topic, value, key, on_delivery=lambda error, _message: outcome.append(error), **options)
    producer.flush(timeout)
    if not outcome:
        raise TimeoutError(f"no acknowledgement within {timeout:g} s")
    if outcome[0] is not None:
        raise KafkaException(outcome[0])


def create_topics(settings: KernelSettings, timeout: float = 30.0) -> list[str]:
    """Create missing topics.

    Returns:
        Names of the topics that were created.

    Raises:
        KafkaException: The broker is unreachable or rejects the request.
        TimeoutError: A created topic got no leader.
    """
    admin = AdminClient(client_options(settings))
    existing = admin.list_topics(timeout=timeout).topics
    # With a broker's usual minimum of 1, "acknowledged by all replicas" may mean by one.
    in_sync = {"min.insync.replicas": "2"} if settings.topic_replication > 2 else {}
    wanted = [
        NewTopic(name, settings.topic_partitions, settings.topic_replication, config={**topic.config, **in_sync})
        for topic in TOPICS
        if (name := topic_name(settings, topic.name)) not in existing
    ]
    if not wanted:
        return []
    created = []
    for name, future in admin.create_topics(wanted, operation_timeout=timeout).items():
        try:
            future.result()
            created.append(name)
        except KafkaException as error:
            # Another process of the deployment created it first.
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    # The broker responds before its metadata has the topic: until then, clients get an unknown-topic error.
    deadline = time.monotonic() + timeout
    names = [topic.topic for topic in wanted]
    while unready := [name for name in names if not _is_ready(admin.list_topics(name, timeout=timeout).topics[name])]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{', '.join(unready)} got no leader within {timeout} s")
        time.sleep(0.02)
    return created


def _is_ready(topic: TopicMetadata) -> bool:
    partitions = topic.partitions.values()
    return topic.error is None and bool(partitions) and all(partition.leader >= 0 for partition in partitions)


def end_offsets(settings: KernelSettings, topic: str, timeout: float = 30.0) -> dict[int, tuple[int, int]]:
    """Return first and next offset by partition, ``{partition: (low, high)}``; empty if the topic does not exist."""
    consumer = Consumer({**consumer_options(settings, "reader"), "group.id": "inflight-reader"})
    try:
        return _watermarks(consumer, topic_name(settings, topic), timeout)
    finally:
        consumer.close()


def read_to_end(
    settings: KernelSettings,
    topic: str,
    timeout: float = 30.0,
    *,
    last_n: int | None = None,
    since: datetime | None = None,
) -> Iterator[Message]:
    """Iterate over the records of a topic up to its current end, without joining a group.

    A batch that the client can't unpack is left out, with a warning.

    Args:
        settings: Connection and topic prefix.
        topic: Name without the prefix.
        timeout: Seconds without a record after which the broker counts as unreachable.
        last_n: Start this many offsets before the end of each partition.
        since: Start at the first record of each partition with this timestamp or a later one.

    Raises:
        TimeoutError: Records are missing and none arrived for `timeout` seconds.
    """
    options = {**consumer_options(settings, "reader"), "group.id": "inflight-reader"}
    consumer = Consumer(options)
    try:
        name = topic_name(settings, topic)
        found = {p: marks for p, marks in _watermarks(consumer, name, timeout).items() if marks[1] > marks[0]}
        ends = {partition: high for partition, (_, high) in found.items()}
        starts = {p: low if last_n is None else max(low, high - last_n) for p, (low, high) in found.items()}
        if since is not None and ends:
            starts |= _offsets_since(consumer, name, ends, since, timeout)
            ends = {partition: end for partition, end in ends.items() if starts[partition] < end}
        consumer.assign([TopicPartition(name, partition, starts[partition]) for partition in ends])
        while ends:
            # `consume` waits for `count` messages or the timeout: a short wait for many, then a long one for the first.
            messages = consumer.consume(1_000, timeout=0.2) or consumer.consume(1, timeout=timeout)
            if not messages:
                raise TimeoutError(
                    f"no record of {name} arrived for {timeout} s, partitions {sorted(ends)} are incomplete"
                )
            for message in messages:
                partition = message.partition()
                error = message.error()
                if error is not None and is_unreadable(message):
                    skipped = skip_unreadable(consumer, options, message)
                    if skipped is not None:
                        logger.warning("%s was not read: %s", name, skipped.explanation)
                        if skipped.offset() + 1 >= ends.get(partition, 0):
                            ends.pop(partition, None)
                    continue
                if error is not None:
                    # The end may be past the last record, at a transaction marker: only this event shows that.
                    if not is_end(message):
                        raise KafkaException(error)
                    if message.offset() >= ends.get(partition, 0):
                        ends.pop(partition, None)
                    continue
                end = ends.get(partition)
                if end is None:
                    continue
                if message.offset() < end:
                    yield message
                if message.offset() + 1 >= end:
                    del ends[partition]
    finally:
        consumer.close()


def _offsets_since(
    consumer: Consumer, name: str, ends: dict[int, int], since: datetime, timeout: float
) -> dict[int, int]:
    asked = [TopicPartition(name, partition, int(since.timestamp() * 1000)) for partition in ends]
    # A negative offset: no record is that new.
    found = consumer.offsets_for_times(asked, timeout=timeout)
    return {tp.partition: tp.offset if tp.offset >= 0 else ends[tp.partition] for tp in found}


def _watermarks(consumer: Consumer, name: str, timeout: float) -> dict[int, tuple[int, int]]:
    def ask() -> dict[int, tuple[int, int]]:
        metadata = consumer.list_topics(name, timeout=timeout).topics[name]
        if metadata.error is None:
            partitions = [TopicPartition(name, partition) for partition in metadata.partitions]
            return {tp.partition: consumer.get_watermark_offsets(tp, timeout=timeout) for tp in partitions}
        if metadata.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return {}
        raise KafkaException(metadata.error)

    return ask_leader(ask, timeout)


def partition_ends(consumer: Consumer, partition: TopicPartition, timeout: float) -> tuple[int, int]:
    """Return the first and the next offset of a partition. Asks and raises as `ask_leader` does."""
    found: tuple[int, int] = ask_leader(lambda: consumer.get_watermark_offsets(partition, timeout=timeout), timeout)
    return found


def ask_leader(ask: Callable[[], _T], timeout: float) -> _T:
    """Ask the broker, again for `timeout` seconds while a partition has no leader.

    Raises:
        KafkaException: the broker is unreachable, rejects the request, or a partition still has no leader.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in _TRANSIENT or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


# A partition briefly has no leader after its topic was created or its broker restarted.
_TRANSIENT = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
)

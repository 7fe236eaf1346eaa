"""What every process needs of Kafka: client options, the topics, and reading a topic up to its present end.

Needs the extra `kafka` (confluent-kafka).
"""

import logging
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, TopicMetadata

from machine_learning_engineering.events.topics import MAX_MESSAGE_BYTES, TOPICS
from machine_learning_engineering.observability.rate_limit import RATE_LIMITED
from machine_learning_engineering.settings import KernelSettings

logger = logging.getLogger(__name__)
# Where no service log was started, as in a command, the error that ends it tells; Python would print each attempt.
logger.addHandler(logging.NullHandler())


def topic_name(settings: KernelSettings, name: str) -> str:
    """The name of a topic or consumer group in this deployment."""
    return settings.topic_prefix + name


def client_options(settings: KernelSettings) -> dict[str, Any]:
    """The librdkafka options that all of a deployment's clients share."""
    return {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "broker.address.family": "v4",
        # Nothing: librdkafka writes to standard error. What goes wrong its clients are told, see `consumer_options`.
        "log_level": 0,
        **settings.kafka_options,
    }


def producer_options(settings: KernelSettings) -> dict[str, Any]:
    """Options of a producer that loses nothing: acks from all replicas, idempotent, bounded in time and memory."""
    return {
        **client_options(settings),
        "acks": "all",
        "enable.idempotence": True,
        "delivery.timeout.ms": int(settings.kafka_delivery_timeout * 1000),
        "message.max.bytes": MAX_MESSAGE_BYTES,
        "queue.buffering.max.kbytes": 256 * 1024,
        "queue.buffering.max.messages": 1_000_000,
    }


def consumer_options(settings: KernelSettings, group: str) -> dict[str, Any]:
    """Options of a group consumer that starts at the beginning and commits only what it is told to.

    While it is polled it logs what is wrong with its connections.
    """
    return {
        **client_options(settings),
        "error_cb": _log_error,
        "group.id": topic_name(settings, group),
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": settings.kafka_idle_pause > 0,
    }


def _log_error(error: KafkaError) -> None:
    logger.warning("Kafka: %s", error.str(), extra=RATE_LIMITED)


def create_topics(settings: KernelSettings, timeout: float = 30.0) -> list[str]:
    """Create the topics that don't exist yet; return the names of those that were created.

    Raises:
        KafkaException: the broker can't be reached or refuses.
        TimeoutError: the broker made the topics but gave them no leader.
    """
    admin = AdminClient(client_options(settings))
    existing = admin.list_topics(timeout=timeout).topics
    wanted = [
        NewTopic(name, settings.topic_partitions, settings.topic_replication, config=topic.config)
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
            # Another process of the same deployment was quicker.
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    # A broker answers before it has learnt of the topic itself: until then, clients are told that there is none.
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


class Fetch:
    """`Consumer.consume`, which rests at the end of all partitions if `idle_pause` (a setting, in seconds) is above 0.

    A pause throws away the fetch under way, so it has to be certain that there is nothing: `consumer_options` asks for
    the event that says so. `may_rest` is False while the consumer is paused for another reason: a rest resumes it.
    """

    def __init__(self, consumer: Consumer, idle_pause: float) -> None:
        self._consumer = consumer
        self._idle_pause = idle_pause
        self._at_end: set[tuple[str, int]] = set()

    def consume(self, count: int, timeout: float, *, may_rest: bool = True) -> list[Message]:
        """At most `count` records or errors, waiting up to `timeout` seconds, and then perhaps for the pause."""
        messages: list[Message] = self._consumer.consume(count, timeout)
        if not self._idle_pause:
            return messages
        messages = self._note_ends(messages)
        if not messages and may_rest and timeout and self._at_end:
            assignment = self._consumer.assignment()
            if self._at_end.issuperset((tp.topic, tp.partition) for tp in assignment):
                self._consumer.pause(assignment)
                # Rebalances are answered in here as well, and what is assigned in the meantime is not paused.
                messages = self._consumer.consume(count, self._idle_pause)
                self._consumer.resume(self._consumer.assignment())
                self._at_end.clear()
                messages = self._note_ends(messages)
        return messages

    def _note_ends(self, messages: list[Message]) -> list[Message]:
        others = []
        for message in messages:
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                self._at_end.add((message.topic(), message.partition()))
            else:
                self._at_end.discard((message.topic(), message.partition()))
                others.append(message)
        return others


def end_offsets(settings: KernelSettings, topic: str, timeout: float = 30.0) -> dict[int, tuple[int, int]]:
    """First and next offset of each partition of a topic: ``{partition: (low, high)}``; empty if there is no topic."""
    consumer = Consumer({**consumer_options(settings, "reader"), "group.id": "inflight-reader"})
    try:
        return _watermarks(consumer, topic_name(settings, topic), timeout)
    finally:
        consumer.close()


def read_to_end(
    settings: KernelSettings, topic: str, timeout: float = 30.0, *, newest: int | None = None, since: datetime | None = None
) -> Iterator[Message]:
    """Every record of a topic from its first up to the end that it has now, without joining a group.

    Args:
        newest: begin this many offsets before the end of each partition.
        since: begin at the first record of each partition with this timestamp or a later one.
        timeout: seconds without any record after which the broker counts as unreachable.

    Raises:
        TimeoutError: records are missing and none came for `timeout` seconds.
    """
    options = {**consumer_options(settings, "reader"), "group.id": "inflight-reader", "enable.partition.eof": True}
    consumer = Consumer(options)
    try:
        name = topic_name(settings, topic)
        found = {p: marks for p, marks in _watermarks(consumer, name, timeout).items() if marks[1] > marks[0]}
        ends = {partition: high for partition, (_, high) in found.items()}
        starts = {p: low if newest is None else max(low, high - newest) for p, (low, high) in found.items()}
        if since is not None:
            starts |= _offsets_since(consumer, name, ends, since, timeout)
            ends = {partition: end for partition, end in ends.items() if starts[partition] < end}
        consumer.assign([TopicPartition(name, partition, starts[partition]) for partition in ends])
        while ends:
            # It waits for all or the time-out: so for many a little, and then for one.
            messages = consumer.consume(1_000, timeout=0.2) or consumer.consume(1, timeout=timeout)
            if not messages:
                raise TimeoutError(
                    f"no record of {name} came for {timeout} s, partitions {sorted(ends)} are unfinished"
                )
            for message in messages:
                partition = message.partition()
                error = message.error()
                if error is not None:
                    # The end may lie past the last record, on a transaction marker: the end-of-partition event tells.
                    if error.code() != KafkaError._PARTITION_EOF:
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
    # Negative: no record is that new.
    found = consumer.offsets_for_times(asked, timeout=timeout)
    return {tp.partition: tp.offset if tp.offset >= 0 else ends[tp.partition] for tp in found}


def _watermarks(consumer: Consumer, name: str, timeout: float) -> dict[int, tuple[int, int]]:
    deadline = time.monotonic() + timeout
    while True:
        try:
            metadata = consumer.list_topics(name, timeout=timeout).topics[name]
            if metadata.error is None:
                partitions = [TopicPartition(name, partition) for partition in metadata.partitions]
                return {tp.partition: consumer.get_watermark_offsets(tp, timeout=timeout) for tp in partitions}
            if metadata.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return {}
            error = metadata.error
        except KafkaException as raised:
            error = raised.args[0]
            if error.code() not in _TRANSIENT:
                raise
        if time.monotonic() > deadline:
            raise KafkaException(error)
        time.sleep(0.05)


# A partition has no leader for a moment after its topic was created and after its broker restarted.
_TRANSIENT = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
)

"""Consumers: options, records and commits that all processes share."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from prometheus_client import CollectorRegistry, Counter

from machine_learning_engineering.kafka.broker_check import broker_check_options
from machine_learning_engineering.kafka.client import consumer_options
from machine_learning_engineering.kafka.positions import (
    OffsetResets,
    is_end,
    is_out_of_range,
    is_unreadable,
    skip_unreadable,
)
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.settings import KernelSettings
from monitoring.runtime.metrics import Declare

Position = tuple[str, int]
"""Topic and partition."""


def group_options(settings: KernelSettings, group: str, prefetch_kbytes: int = 32 * 1024) -> dict[str, Any]:
    """Options of one consumer of a group, with a bound on the memory of what librdkafka fetches ahead.

    The consumer has to be consumed continuously. `consume` raises NoBrokersLeftError if the client can't reconnect:
    the process ends, and its supervisor restarts it.
    """
    return {
        **broker_check_options(),
        **consumer_options(settings, group),
        "session.timeout.ms": int(settings.kafka_session_timeout * 1000),
        "queued.max.messages.kbytes": prefetch_kbytes,
        # `GroupConsumer` starts at the first record then, and logs what it missed.
        "auto.offset.reset": "error",
    }


class ConsumerMetrics:
    """Counts what a consumer missed. Every process with a `GroupConsumer` has these, by topic.

    Args:
        topics: those that are consumed, without the deployment's prefix; each has a series from the start.
    """

    def __init__(self, registry: CollectorRegistry, topics: Collection[str] = ()) -> None:
        self._topics = topics
        metric = Declare(registry)
        text = "Records that were deleted, as by retention, before they were read."
        self.missing = metric(Counter, "inflight_consumer_missing_records", text, "topic")
        text = "Partitions that started again below their offset: the topic was deleted and created again."
        self.restarted = metric(Counter, "inflight_consumer_restarted_partitions", text, "topic")
        text = "Batches of records that the Kafka client could not unpack, and that were skipped."
        self.unreadable = metric(Counter, "inflight_consumer_unreadable_batches", text, "topic")
        for topic in topics:
            self.count(topic)

    def count(self, topic: str, *, missing: int = 0, restarted: int = 0, unreadable: int = 0) -> None:
        """Count for a topic, with or without the deployment's prefix."""
        topic = next((known for known in self._topics if topic.endswith(known)), topic)
        self.missing.labels(topic).inc(missing)
        self.restarted.labels(topic).inc(restarted)
        self.unreadable.labels(topic).inc(unreadable)


class GroupConsumer(Consumer):  # type: ignore[misc]
    """A consumer of a group that no batch and no missing offset can stop. `options` are those of `group_options`.

    `ends` has, by partition, the offset behind the last record, as long as nothing was handed out since. A high
    watermark would not do: markers of transactions and deleted records lie before it, and are never handed out.

    Args:
        process: name in the service log.
    """

    def __init__(self, options: dict[str, Any], process: str, metrics: ConsumerMetrics | None = None) -> None:
        super().__init__(options)
        self._options = options
        self._process = process
        self._metrics = metrics
        self._resets = OffsetResets(self)
        self.ends: dict[Position, int] = {}
        self.restarted: dict[Position, int] = {}
        """The new offset of partitions that started again below theirs, until the process takes it over."""

    def consume(self, *arguments: Any, **named: Any) -> list[Message]:
        """Same as `Consumer.consume`, including the end-of-partition events.

        An `UnreadableRecord` takes the place of a batch that the client can't unpack.
        """
        messages: list[Message] = super().consume(*arguments, **named)
        if self.ends:
            for position in {(message.topic(), message.partition()) for message in messages}:
                self.ends.pop(position, None)
        for index, message in enumerate(messages):
            if message.error() is None:
                continue
            if is_end(message):
                self.ends[message.topic(), message.partition()] = message.offset()
            elif is_out_of_range(message):
                self._resets.note(message)
            elif is_unreadable(message):
                messages[index] = self._skip(message)
        self._reset()
        return messages

    def forget(self, partitions: Iterable[TopicPartition]) -> None:
        """Forget partitions that were revoked, and resume them.

        librdkafka keeps a partition paused through a revocation: once assigned again, it would never be fetched.
        """
        self.resume(partitions)
        self._resets.clear()
        self.ends.clear()
        self.restarted.clear()

    def _skip(self, message: Message) -> Message:
        skipped = skip_unreadable(self, self._options, message)
        if skipped is None:
            return message
        topic, offset, cause = message.topic(), message.offset(), skipped.explanation
        log_event(
            self._process, "batch_unreadable", topic=topic, partition=message.partition(), offset=offset, cause=cause
        )
        if self._metrics is not None:
            self._metrics.count(topic, unreadable=1)
        return skipped

    def _reset(self) -> None:
        for topic, partition, position, start, missing, restarted in self._resets.apply():
            where = {"topic": topic, "partition": partition, "offset": position, "start": start}
            self.ends.pop((topic, partition), None)
            if restarted:
                self.restarted[topic, partition] = start
                log_event(self._process, "log_restarted", cause="the topic holds fewer records than were read", **where)
            elif missing:
                cause = "deleted before they were read"
                log_event(self._process, "records_missing", cause=cause, records=missing, **where)
            if self._metrics is not None:
                self._metrics.count(topic, missing=missing, restarted=restarted)


def ends_to_commit(
    consumer: GroupConsumer, committed: Mapping[Position, int], unfinished: Collection[Position] = ()
) -> dict[Position, int]:
    """The ends of partitions that are not committed yet, without those that have `unfinished` records.

    Else what lies behind the last record, such as a transaction's marker, would count as lag forever.
    """
    return {tp: end for tp, end in consumer.ends.items() if committed.get(tp) != end and tp not in unfinished}


def records(messages: Iterable[Message], process: str) -> list[Message]:
    """The records among messages. Transient errors among them are written to the service log of `process`.

    Events that `GroupConsumer` has dealt with are left out.

    Raises:
        KafkaException: a permanent error.
    """
    found = []
    for message in messages:
        error = message.error()
        if error is None:
            found.append(message)
        elif error.fatal():
            raise KafkaException(error)
        elif not is_end(message) and not is_out_of_range(message):
            log_event(process, "consumer_error", error=error.str())
    return found


def commit(consumer: Consumer, next_offsets: Mapping[Position, int], process: str) -> bool:
    """Commit the next offset of each partition; return whether that succeeded. If not, a later commit covers it.

    If a partition belongs to another consumer by now, its revocation follows, and the new owner rereads those records.

    Raises:
        KafkaException: a permanent error.
    """
    offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in next_offsets.items()]
    try:
        answers: list[TopicPartition] = consumer.commit(offsets=offsets, asynchronous=False)
    except KafkaException as error:
        if error.args[0].fatal():
            raise
        log_event(process, "commit_failed", error=error.args[0].str())
        return False
    # It raises only if all were refused.
    refused = [found for found in answers if found.error is not None]
    for found in refused:
        why = found.error.str()
        log_event(process, "commit_failed", error=why, topic=found.topic, partition=found.partition)
    return not refused

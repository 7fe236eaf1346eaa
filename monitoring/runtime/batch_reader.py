"""Reads the topics of a group in batches for a store that may be unavailable."""

import threading
from collections.abc import Callable

from confluent_kafka import Consumer, Message, TopicPartition
from prometheus_client import Counter

from machine_learning_engineering.kafka.client import topic_name
from machine_learning_engineering.kafka.idle import IdlePausingConsumer
from machine_learning_engineering.settings import KernelSettings
from monitoring.runtime.consumer import (
    ConsumerMetrics,
    GroupConsumer,
    Position,
    commit,
    ends_to_commit,
    group_options,
    records,
)
from monitoring.runtime.groups import READS
from monitoring.runtime.retry import Backoff

LINGER = 0.25
"""Seconds that a batch waits for further records."""
_CHUNK = 200


class Interrupted(Exception):
    """The process stops, or its partitions are revoked: unfinished records are reread later."""


class BatchReader:
    """Reads records in batches and commits them; stays in its group while the store that takes them is unavailable.

    Args:
        settings: of the process.
        process: its name in the service log.
        group: its consumer group; reads the topics of `READS`.
        metrics: what the consumer missed.
        retries: counts retries by cause.
        stopping: ends waiting.
        max_records: of a batch; `max_bytes` is its approximate size.
    """

    def __init__(
        self,
        settings: KernelSettings,
        process: str,
        group: str,
        metrics: ConsumerMetrics,
        retries: Counter,
        stopping: threading.Event,
        *,
        max_records: int,
        max_bytes: int,
    ) -> None:
        self._topics = [topic_name(settings, topic) for topic in READS[group]]
        self._process = process
        self._stopping = stopping
        self._max_records, self._max_bytes = max_records, max_bytes
        self._backoff = Backoff(process, retries)
        self.consumer = GroupConsumer(group_options(settings, group, prefetch_kbytes=16 * 1024), process, metrics)
        self._fetch = IdlePausingConsumer(self.consumer, settings.kafka_idle_pause, patient=True)
        self._read_ahead: list[Message] = []
        self._uncommitted: dict[Position, int] = {}
        self._committed: dict[Position, int] = {}
        self.generation = 0
        """Number of rebalances: another generation has other partitions."""
        self._generation_of_batch = 0

    def run(self, step: Callable[[], None]) -> None:
        """Join the group and repeat a step until the process stops, then leave.

        Raises:
            KafkaException: a permanent error of Kafka.
        """
        self.consumer.subscribe(self._topics, on_revoke=self._on_revoke, on_lost=self._on_lost)
        try:
            while not self._stopping.is_set():
                step()
        finally:
            self.consumer.close()

    @property
    def partitions(self) -> list[int]:
        """The partitions that are assigned to this process."""
        return sorted(tp.partition for tp in self.consumer.assignment())

    def batch(self) -> list[Message]:
        """The next records: a full batch, or those that arrived within `LINGER` seconds.

        Raises:
            KafkaException: a permanent error.
        """
        messages, size = records(self._read_ahead, self._process), 0
        self._read_ahead = []
        room = self._max_records - len(messages)
        timeout = 0.0 if messages else LINGER
        while room > 0 and size < self._max_bytes:
            generation = self.generation
            chunk = records(self._fetch.consume(min(room, _CHUNK), timeout), self._process)
            if self.generation != generation:
                # The records read before belong to another consumer now.
                messages.clear()
            messages += chunk
            size += sum(len(message) for message in chunk)
            room -= len(chunk)
            if len(chunk) < _CHUNK:
                break
        self._generation_of_batch = self.generation
        return messages

    def commit(self, messages: list[Message]) -> None:
        """Commit records, which are all that were handed out.

        Raises:
            KafkaException: a permanent error; the next commit makes up for others.
        """
        for message in messages:
            position = message.topic(), message.partition()
            self._uncommitted[position] = message.offset() + 1
        if not self._read_ahead:
            self._uncommitted |= ends_to_commit(self.consumer, self._committed)
        self._commit()

    def _commit(self) -> None:
        if self._uncommitted and commit(self.consumer, self._uncommitted, self._process):
            self._committed.update(self._uncommitted)
            self._uncommitted.clear()

    def wait(self, attempt: int, cause: str, records: int) -> None:
        """Wait before a retry. Partitions are paused meanwhile, and the consumer stays in its group.

        Args:
            attempt: counts from 0.
            cause: of the retry.
            records: that wait.

        Raises:
            Interrupted: there is no point in waiting.
        """
        seconds = self._backoff.next(attempt, cause, records=records)
        if self._stopping.is_set():
            raise Interrupted
        paused = self.consumer.assignment()
        self.consumer.pause(paused)
        # This also handles rebalances; newly assigned partitions are not paused, and what they return is kept.
        self._read_ahead += self._fetch.consume(_CHUNK, min(seconds, 0.5), may_pause=False)
        self._stopping.wait(max(0.0, seconds - 0.5))
        if self.generation != self._generation_of_batch or self._stopping.is_set():
            raise Interrupted
        self.consumer.resume(paused)

    # Rebalancing is eager: all partitions are revoked, and some are assigned afterwards, from the committed offsets.
    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._commit()
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.consumer.forget(partitions)
        self._read_ahead.clear()
        self._uncommitted.clear()
        self._committed.clear()
        self.generation += 1

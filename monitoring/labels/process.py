"""`inflight label-joiner`: labels from their topic into the log, and live quality by them.

An offset is committed only when each label before it is in the log, pending, or a dead letter. After a kill at any
moment, some labels are reread, which changes nothing.
"""

import threading
from contextlib import suppress
from time import monotonic

from confluent_kafka import Consumer, Message, TopicPartition
from prometheus_client import CollectorRegistry

from machine_learning_engineering.dead_letters.writer import DeadLetterWriter
from machine_learning_engineering.events.topics import DEAD_LETTERS, LABELS, MEASUREMENTS
from machine_learning_engineering.kafka.client import topic_name
from machine_learning_engineering.kafka.idle import IdlePausingConsumer
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.settings import redact_url
from monitoring.elastic.client import FAILURES, connect
from monitoring.labels.join import Interrupted, Join
from monitoring.labels.metrics import LabelJoinerMetrics
from monitoring.labels.pending import PendingLabels
from monitoring.labels.reports import STAGE
from monitoring.labels.resolver import LabelResolver
from monitoring.labels.store import LabelStore
from monitoring.quality.evaluation import Evaluator
from monitoring.quality.measurement import Publisher, QualityMonitor
from monitoring.quality.metrics import QualityMetrics
from monitoring.quality.rows import LabelledPredictions
from monitoring.runtime.consumer import GroupConsumer, Position, commit, ends_to_commit, group_options, records
from monitoring.runtime.groups import LABEL_JOINER, READS
from monitoring.runtime.process import run_process
from monitoring.runtime.retry import Backoff, run_until_ready
from monitoring.runtime.topics import prepare_topics
from monitoring.settings import LabelJoinerSettings

LINGER = 0.25
"""Seconds that a batch waits for further labels."""
MEASURE_SECONDS = 10.0
"""Maximum time that a stopping process waits for a running measurement."""
_GAUGE_SECONDS = 2.0
_CHUNK = 200


class Reader:
    """Reads labels in batches and commits them; stays in its group while Elasticsearch is unavailable."""

    def __init__(self, settings: LabelJoinerSettings, metrics: LabelJoinerMetrics, stopping: threading.Event) -> None:
        self._settings = settings
        self._stopping = stopping
        self._backoff = Backoff("label-joiner", metrics.retries)
        options = group_options(settings, LABEL_JOINER, prefetch_kbytes=16 * 1024)
        self.consumer = GroupConsumer(options, "label-joiner", metrics.consumer)
        self._fetch = IdlePausingConsumer(self.consumer, settings.kafka_idle_pause, patient=True)
        self._read_ahead: list[Message] = []
        self._uncommitted: dict[Position, int] = {}
        self._committed: dict[Position, int] = {}
        self.generation = 0
        """Number of rebalances: another generation has other partitions."""
        self._generation_of_batch = 0

    def subscribe(self) -> None:
        """Join the group."""
        topic = topic_name(self._settings, LABELS)
        self.consumer.subscribe([topic], on_revoke=self._on_revoke, on_lost=self._on_lost)

    def close(self) -> None:
        """Leave the group."""
        self.consumer.close()

    @property
    def partitions(self) -> list[int]:
        """The partitions that are assigned to this process."""
        return sorted(tp.partition for tp in self.consumer.assignment())

    def batch(self) -> list[Message]:
        """The next labels: a full batch, or those that arrived within `LINGER` seconds.

        Raises:
            KafkaException: a permanent error.
        """
        messages, size = records(self._read_ahead, "label-joiner"), 0
        self._read_ahead = []
        room = self._settings.label_joiner_batch_records - len(messages)
        timeout = 0.0 if messages else LINGER
        while room > 0 and size < self._settings.elasticsearch_batch_bytes:
            generation = self.generation
            chunk = records(self._fetch.consume(min(room, _CHUNK), timeout), "label-joiner")
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
        """Commit resolved labels, which are all that were handed out.

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
        if self._uncommitted and commit(self.consumer, self._uncommitted, "label-joiner"):
            self._committed.update(self._uncommitted)
            self._uncommitted.clear()

    def wait(self, attempt: int, cause: str, labels: int) -> None:
        """See `Join`: partitions are paused meanwhile, and the consumer stays in its group."""
        seconds = self._backoff.next(attempt, cause, labels=labels)
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


class LabelJoiner:
    """The loop: a batch of labels, then a page of pending ones."""

    def __init__(
        self, reader: Reader, resolver: LabelResolver, pending: PendingLabels, metrics: LabelJoinerMetrics
    ) -> None:
        self._reader = reader
        self._resolver = resolver
        self._pending = pending
        self._metrics = metrics
        self._generation = reader.generation
        self._gauges_due = 0.0

    def run(self, stopping: threading.Event) -> None:
        """Join until `stopping` is set. Unfinished labels are not committed, and will be reread.

        Raises:
            KafkaException: a permanent error of Kafka.
        """
        self._reader.subscribe()
        try:
            while not stopping.is_set():
                self.step()
        finally:
            self._reader.close()

    def step(self) -> None:
        """One batch and one page."""
        reader = self._reader
        messages = reader.batch()
        if reader.generation != self._generation:
            self._generation = reader.generation
            self._resolver.start_over()
        try:
            if messages:
                self._resolver.process(messages)
            reader.commit(messages)
            self._resolver.look_up(reader.partitions)
            if monotonic() >= self._gauges_due:
                self._gauges_due = monotonic() + _GAUGE_SECONDS
                self._set_gauges()
        except Interrupted:
            log_event("label-joiner", "interrupted", labels=len(messages))

    def _set_gauges(self) -> None:
        partitions = self._reader.partitions
        # Other requests to Elasticsearch report a failure.
        with suppress(*FAILURES):
            self._metrics.pending.set(self._pending.count(partitions) if partitions else 0)


def run(settings: LabelJoinerSettings, evaluator: Evaluator) -> None:
    """Run the label joiner until SIGTERM or SIGINT.

    Args:
        evaluator: knows the models.

    Raises:
        KafkaException: a permanent error of Kafka.
        elasticsearch.ApiError: Elasticsearch rejects the templates.
        OSError: the metrics port is taken.
    """
    registry = CollectorRegistry()
    metrics, quality_metrics = LabelJoinerMetrics(registry), QualityMetrics(registry)

    def work(stopping: threading.Event) -> None:
        with connect(settings, stopping=stopping) as client:
            store = LabelStore(client, settings)
            run_until_ready("label-joiner", lambda: _prepare(settings, store), stopping)
            if stopping.is_set():
                return
            predictions, publish = LabelledPredictions(client), Publisher(settings)
            quality = QualityMonitor(settings, predictions, evaluator, publish, quality_metrics, stopping)
            reader = Reader(settings, metrics, stopping)
            pending = PendingLabels(client, settings, topic_name(settings, LABELS))
            resolver = LabelResolver(
                settings,
                Join(store, reader.wait),
                pending,
                DeadLetterWriter(settings, STAGE),
                reader.wait,
                metrics,
                rejection_reason=evaluator.rejection_reason,
                mark_dirty=quality.mark_dirty,
                cancelled=stopping,
            )
            log_event("label-joiner", "ready")
            quality.start()
            try:
                LabelJoiner(reader, resolver, pending, metrics).run(stopping)
            finally:
                stopping.set()
                quality.join(MEASURE_SECONDS)

    url = redact_url(settings.elasticsearch_url)
    run_process("label-joiner", settings, work, (registry, settings.label_joiner_metrics_port), elasticsearch=url)


def _prepare(settings: LabelJoinerSettings, store: LabelStore) -> None:
    store.prepare()
    prepare_topics("label-joiner", settings, reads=READS[LABEL_JOINER], writes=(DEAD_LETTERS, MEASUREMENTS))

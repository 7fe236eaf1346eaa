"""`inflight indexer`: topics into daily Elasticsearch indices, each record with the effect of exactly once.

An offset is committed only after every record before it is in Elasticsearch or a dead letter. After a kill at any
moment, the next process rereads some records and finds their documents.
"""

import threading
from collections import deque
from datetime import UTC, datetime
from time import monotonic

from confluent_kafka import Consumer, Message, TopicPartition
from elasticsearch import Elasticsearch
from prometheus_client import CollectorRegistry

from machine_learning_engineering.events.topics import DEAD_LETTERS
from machine_learning_engineering.kafka.client import IdlePausingConsumer, topic_name
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.settings import redact_url
from monitoring.elastic.client import connect
from monitoring.elastic.templates import create_first_indices, put_templates
from monitoring.indexer.batch import Batch
from monitoring.indexer.delivery import Delivery
from monitoring.indexer.in_flight import BulkTask
from monitoring.indexer.metrics import IndexerMetrics
from monitoring.indexer.projections import PROJECTIONS
from monitoring.indexer.retention import Retention
from monitoring.runtime.consumer import GroupConsumer, Position, commit, ends_to_commit, group_options, records
from monitoring.runtime.groups import INDEXER, READS
from monitoring.runtime.metrics import Children
from monitoring.runtime.process import run_process
from monitoring.runtime.retry import run_until_ready
from monitoring.runtime.topics import prepare_topics
from monitoring.settings import IndexerSettings

LINGER = 0.25
"""Seconds that the first record of a batch waits for others."""
MAX_IN_FLIGHT = 2
DRAIN_SECONDS = 20.0
"""Maximum time after SIGTERM for the batches in flight; the next process rereads unfinished ones."""
REVOKE_SECONDS = 5.0
PAUSE_AFTER_SECONDS = 1.0
"""Time to wait for Elasticsearch before partitions are paused: a pause discards what was fetched ahead."""


class Indexer:
    """Consumes, batches and commits in order, in one thread; each batch in flight has its own."""

    def __init__(self, settings: IndexerSettings, delivery: Delivery, metrics: IndexerMetrics) -> None:
        self._settings = settings
        self._delivery = delivery
        self._metrics = metrics
        self._documents = Children(metrics.documents)
        self._consumer = GroupConsumer(group_options(settings, INDEXER), "indexer", metrics.consumer)
        self._fetch = IdlePausingConsumer(self._consumer, settings.kafka_idle_pause)
        self._topics = {topic_name(settings, topic): topic for topic in PROJECTIONS}
        self._projections = {name: PROJECTIONS[topic] for name, topic in self._topics.items()}
        self._batch = Batch(self._projections)
        self._due = 0.0
        self._tasks: deque[BulkTask] = deque()
        self._cancelled = threading.Event()
        self._committed: dict[Position, int] = {}
        self._uncommitted: dict[Position, int] = {}
        self._paused = False
        self._blocked_since: float | None = None

    def run(self, stopping: threading.Event) -> None:
        """Index until `stopping` is set, then drain.

        Raises:
            KafkaException: a permanent error; nothing unfinished was committed.
        """
        self._consumer.subscribe(list(self._topics), on_revoke=self._on_revoke, on_lost=self._on_lost)
        try:
            while not stopping.is_set():
                self._step()
            self._drain()
        finally:
            self._cancelled.set()
            self._consumer.close()

    def _step(self) -> None:
        self._settle()
        now = monotonic()
        room = self._settings.elasticsearch_batch_records - self._batch.records
        full = room <= 0 or self._batch.bytes >= self._settings.elasticsearch_batch_bytes
        if full or (self._batch.records and now >= self._due):
            if len(self._tasks) < MAX_IN_FLIGHT:
                self._send()
                return
            if full:
                self._block(now)
                return
        wait = max(0.0, min(self._due - now, LINGER)) if self._batch.records else LINGER
        # consume(n, t) waits for n records or t seconds: so wait for one, and take the others without waiting.
        messages = self._fetch.consume(1, min(wait, 0.05) if self._tasks else wait)
        if messages:
            self._add(messages)
            self._add(self._fetch.consume(min(500, max(1, room - 1)), 0))

    def _add(self, messages: list[Message]) -> None:
        in_flight = [task.batch for task in self._tasks]
        for message in records(messages, "indexer"):
            if not self._batch.records:
                self._due = monotonic() + LINGER
            self._batch.add(message, in_flight)
        self._count_in_flight()

    def _send(self) -> None:
        task = BulkTask(self._delivery, self._batch, self._cancelled)
        self._tasks.append(task)
        self._batch = Batch(self._projections)
        self._blocked_since = None
        task.start()
        if self._paused:
            self._paused = False
            self._consumer.resume(self._consumer.assignment())

    def _block(self, now: float) -> None:
        """The maximum is in flight and the next batch is full: wait, and stay in the consumer group meanwhile."""
        if self._blocked_since is None:
            self._blocked_since = now
        if now - self._blocked_since < PAUSE_AFTER_SECONDS:
            self._tasks[0].join(0.05)
            return
        # At each step: a rebalance may have assigned partitions that are not paused yet.
        self._consumer.pause(self._consumer.assignment())
        self._paused = True
        self._add(self._consumer.consume(1, 0.05))
        self._tasks[0].join(0.05)

    def _settle(self) -> None:
        """Commit the finished batches in the order in which they were read, and count their results."""
        while self._tasks and not self._tasks[0].is_alive():
            task = self._tasks.popleft()
            tally = task.tally
            if tally is None:
                # Failed or cancelled. A commit of later records, or of the ends behind them, would skip it.
                self._tasks.clear()
                self._consumer.ends.clear()
                if task.error is not None:
                    raise task.error
                break
            self._uncommitted.update(task.batch.next_offsets)
            for (topic, result), documents in tally.items():
                self._documents(self._topics[topic], result).inc(documents)
            self._count_in_flight()
        unfinished = set(self._batch.next_offsets).union(*(task.batch.next_offsets for task in self._tasks))
        self._uncommitted |= ends_to_commit(self._consumer, self._committed, unfinished)
        if self._uncommitted:
            self._commit()

    def _commit(self) -> None:
        if commit(self._consumer, self._uncommitted, "indexer"):
            self._committed.update(self._uncommitted)
            self._uncommitted.clear()

    def _finish(self, seconds: float) -> None:
        """Wait at most `seconds` for the batches in flight, and commit the finished ones."""
        deadline = monotonic() + seconds
        for task in tuple(self._tasks):
            task.join(max(0.0, deadline - monotonic()))
        self._settle()

    def _drain(self) -> None:
        deadline = monotonic() + DRAIN_SECONDS
        log_event("indexer", "draining", records=self._records_in_flight())
        while len(self._tasks) >= MAX_IN_FLIGHT and monotonic() < deadline:
            self._tasks[0].join(0.1)
            self._settle()
        if self._batch.records and len(self._tasks) < MAX_IN_FLIGHT:
            self._send()
        self._finish(deadline - monotonic())

    def _forget(self) -> None:
        """Drop what is not committed: the next owner of the partitions rereads it."""
        self._cancelled.set()
        self._cancelled = threading.Event()
        self._tasks.clear()
        self._batch = Batch(self._projections)
        self._uncommitted.clear()
        self._committed.clear()
        self._blocked_since = None
        self._paused = False
        self._count_in_flight()

    # Rebalancing is eager: all partitions are revoked, and some are assigned afterwards, not paused.
    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._finish(REVOKE_SECONDS)
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._consumer.forget(partitions)
        self._forget()

    def _records_in_flight(self) -> int:
        return self._batch.records + sum(task.batch.records for task in self._tasks)

    def _count_in_flight(self) -> None:
        self._metrics.in_flight.set(self._records_in_flight())


def run(settings: IndexerSettings) -> None:
    """Run the indexer until SIGTERM or SIGINT.

    Raises:
        KafkaException: a permanent error of Kafka.
        elasticsearch.ApiError: Elasticsearch rejects the templates.
        OSError: the metrics port is taken.
    """
    registry = CollectorRegistry()
    metrics = IndexerMetrics(registry)

    def work(stopping: threading.Event) -> None:
        with connect(settings, stopping=stopping) as starting:
            run_until_ready("indexer", lambda: _prepare(settings, starting), stopping)
        if stopping.is_set():
            return
        log_event("indexer", "ready")
        with connect(settings) as client:
            Retention(settings, client, metrics, stopping).start()
            Indexer(settings, Delivery(settings, client, metrics), metrics).run(stopping)

    url = redact_url(settings.elasticsearch_url)
    run_process("indexer", settings, work, (registry, settings.indexer_metrics_port), elasticsearch=url)


def _prepare(settings: IndexerSettings, client: Elasticsearch) -> None:
    """Put the templates, without which Elasticsearch would guess the mapping of the day's index, and create topics."""
    put_templates(client, settings)
    create_first_indices(client, datetime.now(UTC))
    prepare_topics("indexer", settings, reads=READS[INDEXER], writes=(DEAD_LETTERS,))

"""`inflight indexer`: topics into Elasticsearch indices, each record with the effect of exactly once.

Batches hold records of one topic, and no topic waits for another. An offset is committed only after every record
before it is in Elasticsearch or a dead letter. After a kill at any moment, the next process rereads some records and
finds their documents.
"""

import threading
from datetime import UTC, datetime
from time import monotonic

from confluent_kafka import Consumer, Message, TopicPartition
from elasticsearch import Elasticsearch
from prometheus_client import CollectorRegistry

from machine_learning_engineering.events.topics import DEAD_LETTERS
from machine_learning_engineering.kafka.client import topic_name
from machine_learning_engineering.kafka.idle import IdlePausingConsumer
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.settings import redact_url
from monitoring.elastic.client import connect
from monitoring.elastic.templates import create_first_indices, put_templates
from monitoring.indexer.delivery import Delivery
from monitoring.indexer.in_flight import BulkTask, Lane
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
"""Batches of one topic."""
DRAIN_SECONDS = 20.0
"""Maximum time after SIGTERM for the batches in flight; the next process rereads unfinished ones."""
REVOKE_SECONDS = 5.0
PAUSE_AFTER_SECONDS = 1.0
"""Time to wait for Elasticsearch before partitions are paused: a pause discards what was fetched ahead."""


class Indexer:
    """Consumes, batches and commits each topic in order, in one thread; each batch in flight has its own."""

    def __init__(self, settings: IndexerSettings, delivery: Delivery, metrics: IndexerMetrics) -> None:
        self._settings = settings
        self._delivery = delivery
        self._metrics = metrics
        self._documents = Children(metrics.documents)
        self._consumer = GroupConsumer(group_options(settings, INDEXER), "indexer", metrics.consumer)
        self._fetch = IdlePausingConsumer(self._consumer, settings.kafka_idle_pause, patient=True)
        self._topics = {topic_name(settings, topic): topic for topic in PROJECTIONS}
        self._projections = {name: PROJECTIONS[topic] for name, topic in self._topics.items()}
        self._lanes = {name: Lane(name, self._projections) for name in self._topics}
        self._tasks: list[BulkTask] = []
        self._cancelled = threading.Event()
        self._committed: dict[Position, int] = {}
        self._uncommitted: dict[Position, int] = {}

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
        full = []
        for lane in self._lanes.values():
            if lane.is_full(self._settings) or (lane.batch.records and now >= lane.due):
                if len(self._tasks_of(lane)) < MAX_IN_FLIGHT:
                    self._send(lane)
                elif lane.is_full(self._settings):
                    full.append(lane)
        if self._wait_for_one_of(full, now):
            return
        # What is due already waits for a batch in flight.
        due = [lane.due for lane in self._lanes.values() if lane.batch.records and lane.due > now]
        wait = max(0.0, min([*due, now + LINGER]) - now)
        # consume(n, t) waits for n records or t seconds: so wait for one, and take the others without waiting.
        messages = self._fetch.consume(1, min(wait, 0.05) if self._tasks else wait, may_pause=not full)
        if messages:
            self._add(messages)
            room = min(self._room(lane) for lane in self._lanes.values() if lane not in full)
            self._add(self._fetch.consume(min(500, max(1, room)), 0))

    def _room(self, lane: Lane) -> int:
        return self._settings.elasticsearch_batch_records - lane.batch.records

    def _tasks_of(self, lane: Lane) -> list[BulkTask]:
        return [task for task in self._tasks if task.topic == lane.topic]

    def _add(self, messages: list[Message]) -> None:
        in_flight = {name: [task.batch for task in self._tasks_of(lane)] for name, lane in self._lanes.items()}
        for message in records(messages, "indexer"):
            topic = message.topic()
            lane = self._lanes[topic]
            if not lane.batch.records:
                lane.due = monotonic() + LINGER
            lane.batch.add(message, in_flight[topic])
        self._count_in_flight()

    def _send(self, lane: Lane) -> None:
        task = BulkTask(self._delivery, lane.batch, self._cancelled, lane.topic)
        self._tasks.append(task)
        task.start()
        if lane.start_next():
            self._consumer.resume(self._partitions_of(lane))

    def _partitions_of(self, lane: Lane) -> list[TopicPartition]:
        return [tp for tp in self._consumer.assignment() if tp.topic == lane.topic]

    def _wait_for_one_of(self, full: list[Lane], now: float) -> bool:
        """The next batches of some topics are full, and the maximum of each is in flight.

        Wait for Elasticsearch, and stay in the consumer group meanwhile. After a while, pause the partitions of these
        topics: no other topic waits for them.

        Returns:
            Whether there is nothing else to do in this step.
        """
        for lane in full:
            if lane.blocked_since is None:
                lane.blocked_since = now
            if now - lane.blocked_since < PAUSE_AFTER_SECONDS:
                self._tasks_of(lane)[0].join(0.05)
                return True
        for lane in full:
            # At each step: a rebalance may have assigned partitions that are not paused yet.
            self._consumer.pause(self._partitions_of(lane))
            lane.paused = True
        if len(full) < len(self._lanes):
            return False
        self._add(self._consumer.consume(1, 0.05))
        self._tasks_of(full[0])[0].join(0.05)
        return True

    def _settle(self) -> None:
        """Commit the finished batches of each topic in the order in which they were read, and count their results."""
        waiting: set[str] = set()
        for task in tuple(self._tasks):
            if task.is_alive() or task.topic in waiting:
                waiting.add(task.topic)
                continue
            self._tasks.remove(task)
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
        open_batches = [lane.batch for lane in self._lanes.values()] + [task.batch for task in self._tasks]
        unfinished = {position for batch in open_batches for position in batch.next_offsets}
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
        left = [lane for lane in self._lanes.values() if lane.batch.records]
        while left and monotonic() < deadline:
            for lane in tuple(left):
                if len(self._tasks_of(lane)) < MAX_IN_FLIGHT:
                    self._send(lane)
                    left.remove(lane)
            if left:
                self._tasks_of(left[0])[0].join(0.1)
                self._settle()
        self._finish(deadline - monotonic())

    def _forget(self) -> None:
        """Drop what is not committed: the next owner of the partitions rereads it."""
        self._cancelled.set()
        self._cancelled = threading.Event()
        self._tasks.clear()
        for lane in self._lanes.values():
            lane.start_next()
        self._uncommitted.clear()
        self._committed.clear()
        self._count_in_flight()

    # Rebalancing is eager: all partitions are revoked, and some are assigned afterwards, not paused.
    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._finish(REVOKE_SECONDS)
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._consumer.forget(partitions)
        self._forget()

    def _records_in_flight(self) -> int:
        waiting = sum(lane.batch.records for lane in self._lanes.values())
        return waiting + sum(task.batch.records for task in self._tasks)

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

"""`inflight indexer`: everything to be seen into daily Elasticsearch indices, each record exactly once in effect.

Offsets are committed only after Elasticsearch, or the dead letters, has accounted for every record before them. Killed
at any moment, it reads some records again, and finds that they are indexed already.
"""

import threading
from collections import deque
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from prometheus_client import CollectorRegistry

from machine_learning_engineering.kafka.client import Fetch, consumer_options, create_topics, topic_name
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.settings import redact_url
from monitoring.elastic import client as search
from monitoring.elastic import templates
from monitoring.indexer.batch import Batch, Position
from monitoring.indexer.delivery import Delivery
from monitoring.indexer.in_flight import Flight
from monitoring.indexer.metrics import IndexerMetrics
from monitoring.indexer.projections import PROJECTIONS
from monitoring.indexer.retention import Retention
from monitoring.runtime.consumer import commit, records
from monitoring.runtime.groups import INDEXER
from monitoring.runtime.metrics import Children
from monitoring.runtime.process import serve_metrics, until_signalled
from monitoring.runtime.retry import TOPIC_SECONDS, prepare
from monitoring.settings import IndexerSettings

LINGER = 0.25
"""Seconds that the first record of a batch waits for others."""
MAX_IN_FLIGHT = 2
DRAIN_SECONDS = 20.0
"""So long after SIGTERM may batches in flight take; what is unfinished then is read again by the next process."""
REVOKE_SECONDS = 5.0
PATIENCE = 1.0
"""Wait so long for Elasticsearch before partitions are paused: a pause throws away what was fetched ahead."""
_LAG_SECONDS = 2.0


class Indexer:
    """Consumes, batches, and commits in order. All of it in one thread, but for the flights."""

    def __init__(self, settings: IndexerSettings, delivery: Delivery, metrics: IndexerMetrics) -> None:
        self._settings = settings
        self._delivery = delivery
        self._metrics = metrics
        self._documents = Children(metrics.documents)
        options = {
            **consumer_options(settings, INDEXER),
            "session.timeout.ms": int(settings.kafka_session_timeout * 1000),
            # What librdkafka fetches ahead: the rest of this process's memory is bounded by the size of a batch.
            "queued.max.messages.kbytes": 32 * 1024,
        }
        self._consumer = Consumer(options)
        self._fetch = Fetch(self._consumer, settings.kafka_idle_pause)
        self._topics = {topic_name(settings, topic): topic for topic in PROJECTIONS}
        self._projections = {name: PROJECTIONS[topic] for name, topic in self._topics.items()}
        self._batch = Batch(self._projections)
        self._due = 0.0
        self._flights: deque[Flight] = deque()
        self._cancelled = threading.Event()
        self._committed: dict[Position, int] = {}
        self._uncommitted: dict[Position, int] = {}
        self._paused = False
        self._blocked_since: float | None = None
        self._lag_due = 0.0

    def run(self, stopping: threading.Event) -> None:
        """Index until `stopping` is set, then drain.

        Raises:
            KafkaException: an error that retrying does not mend; nothing unfinished was committed.
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
        if now >= self._lag_due:
            self._lag_due = now + _LAG_SECONDS
            self._measure_lag()
        room = self._settings.elasticsearch_batch_records - self._batch.records
        full = room <= 0 or self._batch.bytes >= self._settings.elasticsearch_batch_bytes
        if full or (self._batch.records and now >= self._due):
            if len(self._flights) < MAX_IN_FLIGHT:
                self._send()
                return
            if full:
                self._block(now)
                return
        wait = max(0.0, min(self._due - now, LINGER)) if self._batch.records else LINGER
        # consume(n, t) waits until it has n or t is over: so one with a time-out, and the others with none.
        messages = self._fetch.consume(1, min(wait, 0.05) if self._flights else wait)
        if messages:
            self._add(messages)
            self._add(self._fetch.consume(min(500, max(1, room - 1)), 0))

    def _add(self, messages: list[Message]) -> None:
        under_way = [flight.batch for flight in self._flights]
        for message in records(messages, "indexer"):
            if not self._batch.records:
                self._due = monotonic() + LINGER
            self._batch.add(message, under_way)
        self._count_in_flight()

    def _send(self) -> None:
        flight = Flight(self._delivery, self._batch, self._cancelled)
        self._flights.append(flight)
        self._batch = Batch(self._projections)
        self._blocked_since = None
        flight.start()
        if self._paused:
            self._paused = False
            self._consumer.resume(self._consumer.assignment())

    def _block(self, now: float) -> None:
        """Every flight is taken and the next batch is full: wait, and stay in the group while waiting."""
        if self._blocked_since is None:
            self._blocked_since = now
        if now - self._blocked_since < PATIENCE:
            self._flights[0].join(0.05)
            return
        # At each step: a rebalance may have brought partitions that are not paused yet.
        self._consumer.pause(self._consumer.assignment())
        self._paused = True
        self._add(self._consumer.consume(1, 0.05))
        self._flights[0].join(0.05)

    def _settle(self) -> None:
        """Commit the batches that are done, in the order in which they were read, and count what became of them."""
        while self._flights and not self._flights[0].is_alive():
            flight = self._flights.popleft()
            tally = flight.tally
            if tally is None:
                # Failed or cancelled. A commit of what was read after it would pass over it.
                self._flights.clear()
                if flight.error is not None:
                    raise flight.error
                break
            self._uncommitted.update(flight.batch.next_offsets)
            for (topic, result), documents in tally.items():
                self._documents(self._topics[topic], result).inc(documents)
            self._count_in_flight()
        if self._uncommitted:
            self._commit()

    def _commit(self) -> None:
        if commit(self._consumer, self._uncommitted, "indexer"):
            self._committed.update(self._uncommitted)
            self._uncommitted.clear()

    def _finish(self, seconds: float) -> None:
        """Wait at most so long for the batches in flight, and commit those that are done."""
        deadline = monotonic() + seconds
        for flight in tuple(self._flights):
            flight.join(max(0.0, deadline - monotonic()))
        self._settle()

    def _drain(self) -> None:
        deadline = monotonic() + DRAIN_SECONDS
        log_event("indexer", "draining", records=self._records_in_flight())
        while len(self._flights) >= MAX_IN_FLIGHT and monotonic() < deadline:
            self._flights[0].join(0.1)
            self._settle()
        if self._batch.records and len(self._flights) < MAX_IN_FLIGHT:
            self._send()
        self._finish(deadline - monotonic())

    def _forget(self) -> None:
        """Drop what is not committed: whoever owns the partitions next reads it again."""
        self._cancelled.set()
        self._cancelled = threading.Event()
        self._flights.clear()
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
        # librdkafka keeps a partition paused through a revocation: assigned again, it would never be fetched.
        consumer.resume(partitions)
        self._forget()

    def _records_in_flight(self) -> int:
        return self._batch.records + sum(flight.batch.records for flight in self._flights)

    def _count_in_flight(self) -> None:
        self._metrics.in_flight.set(self._records_in_flight())

    def _measure_lag(self) -> None:
        try:
            assigned = self._consumer.assignment()
            missing = [tp for tp in assigned if (tp.topic, tp.partition) not in self._committed]
            if missing:
                for tp in self._consumer.committed(missing, timeout=2.0):
                    if tp.error is None:
                        self._committed[tp.topic, tp.partition] = tp.offset
            lag = 0
            for tp in assigned:
                low, high = self._consumer.get_watermark_offsets(tp, cached=True)
                # Negative: not known yet, or nothing committed yet.
                lag += max(0, high - max(low, self._committed.get((tp.topic, tp.partition), high), 0))
        except KafkaException as error:
            log_event("indexer", "lag_unknown", error=error.args[0].str())
            return
        self._metrics.lag.set(lag)


def run(settings: IndexerSettings) -> None:
    """Run the indexer until SIGTERM or SIGINT.

    Raises:
        KafkaException: Kafka refuses for good.
        elasticsearch.ApiError: Elasticsearch refuses the templates.
        OSError: the metrics port is taken.
    """
    registry = CollectorRegistry()
    metrics = IndexerMetrics(registry)
    client = search.connect(settings)
    with (
        until_signalled() as stopping,
        serve_metrics(registry, settings.metrics_host, settings.indexer_metrics_port) as url,
    ):
        search_url = redact_url(settings.elasticsearch_url)
        log_event("indexer", "started", metrics=url, kafka=settings.kafka_bootstrap_servers, search=search_url)
        try:
            with search.connect(settings, stopping=stopping) as starting:
                _prepare(settings, starting, stopping)
            if not stopping.is_set():
                log_event("indexer", "ready")
                Retention(settings, client, metrics, stopping).start()
                Indexer(settings, Delivery(settings, client, metrics), metrics).run(stopping)
        finally:
            client.close()
        log_event("indexer", "stopped")


def _prepare(settings: IndexerSettings, client: Any, stopping: threading.Event) -> None:
    """Without the templates nothing may be indexed: Elasticsearch would guess the mapping of the day's index."""

    def steps() -> None:
        templates.put_templates(client, settings)
        templates.create_first_indices(client, datetime.now(UTC))
        create_topics(settings, TOPIC_SECONDS)

    prepare("indexer", steps, stopping)

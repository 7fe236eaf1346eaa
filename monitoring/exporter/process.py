"""`inflight exporter`: Prometheus metrics from log events, shadows and dead letters.

Offsets are committed after counting. A restart continues at the last commit, with counters at zero, as Prometheus
expects; after a kill, up to `COMMIT_SECONDS` of events are counted twice. `inflight audit` counts exactly.
"""

import threading
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from prometheus_client import CollectorRegistry

from machine_learning_engineering.events.headers import headers_of
from machine_learning_engineering.events.topics import DEAD_LETTERS, LOGS, SHADOWS
from machine_learning_engineering.kafka.client import topic_name
from machine_learning_engineering.kafka.idle import IdlePausingConsumer
from machine_learning_engineering.kafka.topic_check import check_topics
from machine_learning_engineering.observability.logging import log_event
from monitoring.exporter.collector import LagCollector, read_retention
from monitoring.exporter.lag import LagReader
from monitoring.exporter.metrics import ExporterMetrics
from monitoring.exporter.observer import Observer
from monitoring.runtime.consumer import (
    ConsumerMetrics,
    GroupConsumer,
    Position,
    commit,
    ends_to_commit,
    group_options,
    records,
)
from monitoring.runtime.groups import EXPORTER, READS
from monitoring.runtime.process import run_process
from monitoring.runtime.retry import CREATE_TOPICS_TIMEOUT, error_label
from monitoring.settings import ExporterSettings

COMMIT_SECONDS = 1.0
LAG_SECONDS = 3.0
_BATCH = 1_000


class Exporter:
    """Consumes logs, shadows and dead letters, and commits counted ones."""

    def __init__(self, settings: ExporterSettings, observer: Observer, metrics: ConsumerMetrics | None = None) -> None:
        self._observer = observer
        self._logs = topic_name(settings, LOGS)
        self._shadows = topic_name(settings, SHADOWS)
        self._dead_letters = topic_name(settings, DEAD_LETTERS)
        self._consumer = GroupConsumer(group_options(settings, EXPORTER), "exporter", metrics)
        self._fetch = IdlePausingConsumer(self._consumer, settings.kafka_idle_pause, patient=True)
        self._observed: dict[Position, int] = {}
        self._committed: dict[Position, int] = {}

    def run(self, stopping: threading.Event) -> None:
        """Observe until `stopping` is set.

        Raises:
            KafkaException: a permanent error.
        """
        topics = [self._logs, self._shadows, self._dead_letters]
        self._consumer.subscribe(topics, on_revoke=self._on_revoke, on_lost=self._on_lost)
        commit_due = monotonic() + COMMIT_SECONDS
        try:
            while not stopping.is_set():
                # consume(n, t) waits for n records or t seconds: so wait for one, and take the others without waiting.
                if messages := self._fetch.consume(1, 0.2):
                    self._observe(messages)
                    self._observe(self._fetch.consume(_BATCH, 0))
                if monotonic() >= commit_due:
                    self._observed |= ends_to_commit(self._consumer, self._committed)
                    self._commit()
                    commit_due = monotonic() + COMMIT_SECONDS
            self._commit()
        finally:
            self._consumer.close()

    def _observe(self, messages: list[Message]) -> None:
        observer, logs = self._observer, self._logs
        for message in records(messages, "exporter"):
            topic = message.topic()
            if topic == logs:
                observer.observe_log_record(message.value())
            elif topic == self._shadows:
                observer.observe_shadow_record(message.value())
            else:
                observer.observe_dead_letter_record(headers_of(message))
            self._observed[topic, message.partition()] = message.offset() + 1

    def _commit(self) -> None:
        if self._observed and commit(self._consumer, self._observed, "exporter"):
            self._committed |= self._observed
            self._observed.clear()

    # Rebalancing is eager: all partitions are revoked.
    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._commit()
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._consumer.forget(partitions)
        self._observed.clear()
        self._committed.clear()


def run(settings: ExporterSettings, sources: Callable[[], Iterable[str]] = tuple) -> None:
    """Run the exporter until SIGTERM or SIGINT.

    Args:
        settings: the exporter's settings.
        sources: returns the full names of the existing topics that workers read.

    Raises:
        KafkaException: a permanent error of Kafka.
        OSError: the metrics port is taken.
    """
    registry = CollectorRegistry()
    metrics = ExporterMetrics(registry)

    def work(stopping: threading.Event) -> None:
        retention = partial(read_retention, settings)
        lag = LagCollector(LagReader(settings, sources=sources), metrics, stopping, LAG_SECONDS, retention)
        lag.start()
        _warn_of_topics(settings)
        try:
            Exporter(settings, Observer(metrics), metrics.consumer).run(stopping)
        finally:
            stopping.set()
            lag.join(5.0)

    run_process("exporter", settings, work, (registry, settings.exporter_metrics_port))


def _warn_of_topics(settings: ExporterSettings) -> None:
    # The exporter loses nothing by such settings, and reports an unreachable broker: so it neither exits nor retries.
    try:
        for fault in check_topics(settings, READS[EXPORTER], timeout=CREATE_TOPICS_TIMEOUT):
            log_event("exporter", "topic_setting", cause=str(fault))
    except KafkaException as error:
        log_event("exporter", "topics_unchecked", cause=error_label(error))

"""`inflight exporter`: Prometheus series from the log events and the dead letters.

It counts each event once for each time that it reads it: offsets are committed after counting, so a restart goes on
where the last commit was (counters start at zero again, as Prometheus expects), and after a kill it counts up to
`COMMIT_SECONDS` of events twice. The exact accounting is `inflight audit`.
"""

import threading
from time import monotonic

from confluent_kafka import Consumer, Message, TopicPartition
from prometheus_client import CollectorRegistry

from machine_learning_engineering.events.headers import headers_of
from machine_learning_engineering.events.topics import DEAD_LETTERS, LOGS
from machine_learning_engineering.kafka.client import Fetch, consumer_options, topic_name
from machine_learning_engineering.observability.logging import log_event
from monitoring.exporter.lag import LagReader, LagWatch
from monitoring.exporter.metrics import ExporterMetrics
from monitoring.exporter.observer import Observer
from monitoring.runtime.consumer import commit, records
from monitoring.runtime.groups import EXPORTER
from monitoring.runtime.process import serve_metrics, until_signalled
from monitoring.settings import ExporterSettings

COMMIT_SECONDS = 1.0
LAG_SECONDS = 3.0
_BATCH = 1_000


class Exporter:
    """Consumes logs and dead letters, and commits what was observed."""

    def __init__(self, settings: ExporterSettings, observer: Observer) -> None:
        self._observer = observer
        self._logs = topic_name(settings, LOGS)
        self._dead_letters = topic_name(settings, DEAD_LETTERS)
        options = {
            **consumer_options(settings, EXPORTER),
            "session.timeout.ms": int(settings.kafka_session_timeout * 1000),
            "queued.max.messages.kbytes": 32 * 1024,
            # Whoever starts it before the topics exist need not wait for the next full refresh.
            "topic.metadata.refresh.interval.ms": 5_000,
        }
        self._consumer = Consumer(options)
        self._fetch = Fetch(self._consumer, settings.kafka_idle_pause)
        self._observed: dict[tuple[str, int], int] = {}

    def run(self, stopping: threading.Event) -> None:
        """Observe until `stopping` is set.

        Raises:
            KafkaException: an error that retrying does not mend.
        """
        topics = [self._logs, self._dead_letters]
        self._consumer.subscribe(topics, on_revoke=self._on_revoke, on_lost=self._on_lost)
        commit_due = monotonic() + COMMIT_SECONDS
        try:
            while not stopping.is_set():
                # consume(n, t) waits until it has n or t is over: so one with a time-out, the others with none.
                if messages := self._fetch.consume(1, 0.2):
                    self._observe(messages)
                    self._observe(self._fetch.consume(_BATCH, 0))
                if monotonic() >= commit_due:
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
            else:
                observer.observe_dead_letter_record(headers_of(message))
            self._observed[topic, message.partition()] = message.offset() + 1

    def _commit(self) -> None:
        if self._observed and commit(self._consumer, self._observed, "exporter"):
            self._observed.clear()

    # Rebalancing is eager: all partitions are revoked.
    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._commit()
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Paused for a rest, they would stay so through the revocation, and never be fetched when they come back.
        consumer.resume(partitions)
        self._observed.clear()


def run(settings: ExporterSettings) -> None:
    """Run the exporter until SIGTERM or SIGINT.

    Raises:
        KafkaException: Kafka refuses for good.
        OSError: the metrics port is taken.
    """
    registry = CollectorRegistry()
    metrics = ExporterMetrics(registry)
    with (
        until_signalled() as stopping,
        serve_metrics(registry, settings.metrics_host, settings.exporter_metrics_port) as url,
    ):
        log_event("exporter", "started", metrics=url, kafka=settings.kafka_bootstrap_servers)
        watch = LagWatch(LagReader(settings), metrics, stopping, LAG_SECONDS)
        watch.start()
        try:
            Exporter(settings, Observer(metrics)).run(stopping)
        finally:
            stopping.set()
            watch.join(5.0)
        log_event("exporter", "stopped")

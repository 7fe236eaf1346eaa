"""`inflight exporter`: Prometheus series from the log events and the dead letters.

It counts each event once for each time that it reads it: offsets are committed after counting, so a restart goes on
where the last commit was (counters start at zero again, as Prometheus expects), and after a kill it counts up to
`COMMIT_SECONDS` of events twice. The exact accounting is `inflight audit`.
"""

import threading
from collections.abc import Sequence
from time import monotonic, time

from confluent_kafka import Consumer, Message, TopicPartition
from msgspec import UNSET, Struct, UnsetType
from msgspec.json import Decoder
from prometheus_client import CollectorRegistry

from machine_learning_engineering.settings import Settings
from machine_learning_engineering.stream.events import PredictionLogged, Timestamp
from machine_learning_engineering.stream.headers import headers_of, read_origin
from machine_learning_engineering.stream.kafka import Fetch, consumer_options, topic_name
from machine_learning_engineering.stream.topics import DEAD_LETTERS, LOGS
from monitoring.documents import trace_ids
from monitoring.exporting.lag import LagReader, LagWatch
from monitoring.metrics import UNKNOWN, Children, ExporterMetrics
from monitoring.runtime.consuming import commit, records
from monitoring.runtime.groups import EXPORTER
from monitoring.runtime.process import say, serve_metrics, until_signalled

COMMIT_SECONDS = 1.0
LAG_SECONDS = 3.0
_BATCH = 1_000


class ErrorType(Struct, frozen=True):
    type: str


class Observed(Struct, frozen=True, tag_field="type", tag="prediction.logged.v1"):
    """What the metrics need of a `PredictionLogged`: decoding skips the rest."""

    model: str
    outcome: str
    completed_at: Timestamp
    queue_seconds: float
    score_seconds: float
    total_seconds: float
    model_version: str | UnsetType = UNSET
    error: ErrorType | UnsetType = UNSET
    traceparent: str | UnsetType = UNSET


decode_observed = Decoder(Observed).decode


class Observer:
    """Turns events into metrics."""

    def __init__(self, metrics: ExporterMetrics) -> None:
        self._predictions = Children(metrics.predictions)
        self._errors = Children(metrics.errors)
        self._latency = Children(metrics.latency)
        self._dead_letters = Children(metrics.dead_letters)
        self._unreadable = metrics.unreadable
        self._newest = 0.0
        metrics.log_age.set_function(lambda: time() - self._newest if self._newest else float("nan"))

    def observe(self, event: Observed | PredictionLogged) -> None:
        """Count one answered request."""
        error = event.error
        # Whoever asks for models that do not exist must not fill the series with their names.
        model = UNKNOWN if error is not UNSET and error.type == "unknown-model" else event.model
        version = UNKNOWN if event.model_version is UNSET else event.model_version
        self._predictions(model, version, event.outcome).inc()
        if error is not UNSET:
            self._errors(model, error.type).inc()
        trace = trace_ids(event.traceparent)
        exemplar = None if trace is None else {"trace_id": trace[0]}
        self._latency(model, "queue").observe(event.queue_seconds, exemplar)
        self._latency(model, "score").observe(event.score_seconds, exemplar)
        self._latency(model, "total").observe(event.total_seconds, exemplar)
        self._newest = max(self._newest, event.completed_at.timestamp())

    def observe_dead_letter(self, reason: str, stage: str) -> None:
        """Count one dead letter."""
        self._dead_letters(reason, stage).inc()

    def observe_log_record(self, value: bytes | None) -> None:
        """Count one record of the log topic, readable or not."""
        try:
            event = decode_observed(value or b"")
        except (ValueError, RecursionError):
            self._unreadable.inc()
            return
        self.observe(event)

    def observe_dead_letter_record(self, headers: Sequence[tuple[str, bytes | None]] | None) -> None:
        """Count one record of the topic of dead letters by its headers."""
        try:
            origin = read_origin(headers)
        except ValueError:
            self.observe_dead_letter(UNKNOWN, UNKNOWN)
            return
        self.observe_dead_letter(origin.reason, origin.stage)


class Exporter:
    """Consumes logs and dead letters, and commits what was observed."""

    def __init__(self, settings: Settings, observer: Observer) -> None:
        self._observer = observer
        self._logs = topic_name(settings, LOGS)
        self._dead_letters = topic_name(settings, DEAD_LETTERS)
        options = {
            **consumer_options(settings, EXPORTER),
            "session.timeout.ms": int(settings.worker_session_timeout * 1000),
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


def run(settings: Settings) -> None:
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
        say("exporter", "started", metrics=url, kafka=settings.kafka_bootstrap_servers)
        watch = LagWatch(LagReader(settings), metrics, stopping, LAG_SECONDS)
        watch.start()
        try:
            Exporter(settings, Observer(metrics)).run(stopping)
        finally:
            stopping.set()
            watch.join(5.0)
        say("exporter", "stopped")

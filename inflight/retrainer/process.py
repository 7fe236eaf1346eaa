"""`inflight retrainer`: the loop of one machine. It keeps nothing; the registry has what was done."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic

from confluent_kafka import Consumer, KafkaException, TopicPartition
from prometheus_client import CollectorRegistry

from inflight.retrainer import child
from inflight.retrainer.due import Retrainer
from inflight.retrainer.evidence import StreamEvidence
from inflight.retrainer.metrics import RetrainerMetrics
from inflight.retrainer.ports import Evidence, StartRollout, Train
from inflight.retrainer.reports import Report
from inflight.settings import Settings
from machine_learning_engineering.events.topics import LABELS, MEASUREMENTS, MODEL_EVENTS
from machine_learning_engineering.kafka.client import consumer_options, topic_name
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.policies import InvalidPolicies, load_policies
from monitoring.runtime.process import run_process
from monitoring.runtime.retry import run_until_ready
from monitoring.runtime.topics import prepare_topics

NAME = "retrainer"
_POLL_SECONDS = 0.5
_TIMEOUT = 15.0


def run(settings: Settings, start_rollout: StartRollout, train: Train = child.run) -> None:
    """Retrain what is due until SIGTERM or SIGINT. A training that runs then is killed and taken up again later.

    Raises:
        InvalidPolicies: The file of policies can't be used.
        OSError: The metrics port is taken.
    """
    load_policies(settings)
    registry = CollectorRegistry()
    metrics = RetrainerMetrics(registry)

    def work(stopping: threading.Event) -> None:
        run_until_ready(
            NAME, lambda: prepare_topics(NAME, settings, reads=(MODEL_EVENTS, MEASUREMENTS, LABELS)), stopping
        )
        if stopping.is_set():
            return
        log_event(NAME, "ready")
        Loop(settings, StreamEvidence(settings), train, start_rollout, metrics, stopping).run()

    run_process(NAME, settings, work, (registry, settings.retrainer_metrics_port))


class Loop:
    """Looks at all models at an interval, and at once when the stream tells of a model's drift or of a new champion.

    Args:
        clock: The time, with a zone.
    """

    def __init__(
        self,
        settings: Settings,
        evidence: Evidence,
        train: Train,
        start_rollout: StartRollout,
        metrics: RetrainerMetrics,
        stopping: threading.Event,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._stopping = stopping
        self._clock = clock
        self._told: dict[str, str] = {}
        self._retrainer = Retrainer(settings, evidence, train, start_rollout, clock=clock, stopping=stopping.is_set)

    def run(self) -> None:
        """Look until the process has to stop."""
        with _ModelEvents(self._settings) as events:
            while not self._stopping.is_set():
                self.look()
                events.wait(self._stopping, self._settings.retrainer_interval)

    def look(self) -> list[Report]:
        """Look at all models once."""
        try:
            policies = load_policies(self._settings)
        except InvalidPolicies as error:
            # A file that is being edited: what was started goes on.
            self._tell("", "policies_invalid", str(error), {})
            self._metrics.errors.labels("").inc()
            return []
        reports = []
        for report in self._retrainer.run(policies, on_progress=self._on_progress):
            self._metrics.running.set(0)
            reports.append(report)
            if report.outcome == "unreadable":
                self._metrics.errors.labels(report.model).inc()
            elif report.slot or report.outcome == "abandoned":
                self._metrics.runs.labels(report.model, report.trigger, report.outcome).inc()
            self._tell(report.model, report.outcome, report.reason, _fields(report))
        self._metrics.looked_at.set(self._clock().timestamp())
        return reports

    def _on_progress(self, step: str) -> None:
        self._metrics.running.set(self._clock().timestamp())
        log_event(NAME, "step", step=step)

    def _tell(self, model: str, event: str, reason: str, fields: dict[str, object]) -> None:
        """Log what differs from the last look; times within a reason change with each."""
        if self._told.get(model) != (said := f"{event} {fields} {reason.partition('until')[0]}"):
            log_event(NAME, event, model=model, reason=reason, **fields)
            self._told[model] = said


def _fields(report: Report) -> dict[str, object]:
    if not report.slot:
        return {}
    return {
        "slot": report.slot,
        "trigger": report.trigger,
        "version": report.version,
        "rollout": report.rollout_id,
        "rows": report.rows,
        "flags": list(report.flags),
        "seconds": report.seconds,
    }


class _ModelEvents:
    """Wakes up when somebody writes to `model-events`, read from its end on. What it says is read elsewhere."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = Consumer({**consumer_options(settings, "reader"), "group.id": "inflight-reader"})
        self._topic = topic_name(settings, MODEL_EVENTS)

    def __enter__(self) -> "_ModelEvents":
        try:
            found = self._consumer.list_topics(self._topic, timeout=_TIMEOUT).topics[self._topic]
            # -1: from the end on.
            self._consumer.assign([TopicPartition(self._topic, partition, -1) for partition in found.partitions])
        except KafkaException as error:
            # The interval wakes it up as well.
            log_event(NAME, "events_unreadable", error=str(error)[:1_000])
        return self

    def __exit__(self, *exception: object) -> None:
        self._consumer.close()

    def wait(self, stopping: threading.Event, seconds: float) -> None:
        """Wait for an event, for `seconds`, or until the process has to stop."""
        until = monotonic() + seconds
        while monotonic() < until and not stopping.is_set():
            message = self._consumer.poll(min(_POLL_SECONDS, seconds))
            if message is not None and message.error() is None:
                return

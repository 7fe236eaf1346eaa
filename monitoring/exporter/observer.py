"""Counts log events and dead letters."""

from collections.abc import Sequence
from time import time

from msgspec import UNSET, Struct, UnsetType
from msgspec.json import Decoder

from machine_learning_engineering.dead_letters.letter import read_origin
from machine_learning_engineering.events.schemas import PredictionLogged, Timestamp
from machine_learning_engineering.observability.trace import trace_ids
from monitoring.exporter.metrics import MODEL_ERRORS, OUTCOMES, ExporterMetrics
from monitoring.runtime.metrics import MAX_CHILDREN, UNKNOWN, Children


class ErrorType(Struct, frozen=True):
    type: str


class Observed(Struct, frozen=True, tag_field="type", tag="prediction.logged.v1"):
    """The fields of a `PredictionLogged` that the metrics need: decoding skips the others."""

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
    """Updates metrics from events."""

    def __init__(self, metrics: ExporterMetrics) -> None:
        self._predictions = Children(metrics.predictions)
        self._errors = Children(metrics.errors)
        self._latency = Children(metrics.latency)
        self._dead_letters = Children(metrics.dead_letters)
        self._unreadable = metrics.unreadable
        self._introduced: set[tuple[str, str]] = set()
        self._newest = 0.0
        metrics.log_age.set_function(lambda: time() - self._newest if self._newest else float("nan"))

    def observe(self, event: Observed | PredictionLogged) -> None:
        """Count one processed request."""
        error = event.error
        # Requests for unknown models must not create a series for each name.
        model = UNKNOWN if error is not UNSET and error.type == "unknown_model" else event.model
        version = UNKNOWN if event.model_version is UNSET else event.model_version
        if (model, version) not in self._introduced and len(self._introduced) < MAX_CHILDREN:
            self._introduce(model, version)
        self._predictions(model, version, event.outcome).inc()
        if error is not UNSET:
            self._errors(model, error.type).inc()
        trace = trace_ids(event.traceparent)
        exemplar = None if trace is None else {"trace_id": trace[0]}
        self._latency(model, "queue").observe(event.queue_seconds, exemplar)
        self._latency(model, "score").observe(event.score_seconds, exemplar)
        self._latency(model, "total").observe(event.total_seconds, exemplar)
        self._newest = max(self._newest, event.completed_at.timestamp())

    def _introduce(self, model: str, version: str) -> None:
        """Create the series of a version with the value 0: `increase` does not see the first value of a series."""
        self._introduced.add((model, version))
        for outcome in OUTCOMES:
            self._predictions(model, version, outcome)
        if model != UNKNOWN:
            for error in MODEL_ERRORS:
                self._errors(model, error)

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
        """Count one record of the dead-letter topic by its headers."""
        try:
            origin = read_origin(headers)
        except ValueError:
            self.observe_dead_letter(UNKNOWN, UNKNOWN)
            return
        self.observe_dead_letter(origin.reason, origin.stage)

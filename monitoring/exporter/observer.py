"""Counts log events and dead letters."""

from collections.abc import Sequence
from time import time

from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.json import Decoder

from machine_learning_engineering.dead_letters.letter import read_origin
from machine_learning_engineering.events.schemas import PredictionLogged, Timestamp
from machine_learning_engineering.observability.trace import trace_ids
from machine_learning_engineering.rollout.comparison import compare
from monitoring.exporter.metrics import MODEL_ERRORS, OUTCOMES, ExporterMetrics
from monitoring.runtime.metrics import MAX_CHILDREN, UNKNOWN, Children


class ErrorType(Struct, frozen=True):
    type: str


class ObservedArm(Struct, frozen=True):
    arm: str


class ObservedShadow(Struct, frozen=True, tag_field="type", tag="prediction.shadowed.v1"):
    """The fields of a `PredictionShadowed` that the metrics need."""

    model: str
    role: str
    outcome: str
    prediction: Raw | UnsetType = UNSET
    shadow_prediction: Raw | UnsetType = UNSET
    shadow_seconds: float | UnsetType = UNSET


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
    rollout: ObservedArm | UnsetType = UNSET


decode_observed = Decoder(Observed).decode
decode_observed_shadow = Decoder(ObservedShadow).decode


class Observer:
    """Updates metrics from events."""

    def __init__(self, metrics: ExporterMetrics) -> None:
        self._predictions = Children(metrics.predictions)
        self._errors = Children(metrics.errors)
        self._latency = Children(metrics.latency)
        self._dead_letters = Children(metrics.dead_letters)
        self._arms = Children(metrics.rollout_requests)
        self._arm_latency = Children(metrics.rollout_latency)
        self._shadows = Children(metrics.shadows)
        self._different = Children(metrics.different)
        self._unreadable = metrics.unreadable
        self._introduced: set[tuple[str, ...]] = set()
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
        if event.rollout is not UNSET:
            self._introduce_arm(model, event.rollout.arm)
            self._arms(model, event.rollout.arm, event.outcome).inc()
            self._arm_latency(model, event.rollout.arm).observe(event.score_seconds)
        self._newest = max(self._newest, event.completed_at.timestamp())

    def _introduce(self, model: str, version: str) -> None:
        """Create the series of a version with the value 0: `increase` does not see the first value of a series."""
        self._introduced.add((model, version))
        for outcome in OUTCOMES:
            self._predictions(model, version, outcome)
        if model != UNKNOWN:
            for error in MODEL_ERRORS:
                self._errors(model, error)

    def _introduce_arm(self, model: str, arm: str) -> None:
        if (model, arm) not in self._introduced and len(self._introduced) < MAX_CHILDREN:
            self._introduced.add((model, arm))
            for outcome in OUTCOMES:
                self._arms(model, arm, outcome)

    def observe_shadow_record(self, value: bytes | None) -> None:
        """Count one record of the topic of shadows, readable or not."""
        try:
            event = decode_observed_shadow(value or b"")
        except (ValueError, RecursionError):
            self._unreadable.inc()
            return
        if (event.model, event.role, "") not in self._introduced and len(self._introduced) < MAX_CHILDREN:
            self._introduced.add((event.model, event.role, ""))
            for outcome in (*OUTCOMES, "dropped"):
                self._shadows(event.model, event.role, outcome)
            self._different(event.model, event.role)
        self._shadows(event.model, event.role, event.outcome).inc()
        if event.shadow_seconds is not UNSET:
            self._arm_latency(event.model, event.role).observe(event.shadow_seconds)
        served, shadow = event.prediction, event.shadow_prediction
        if served is not UNSET and shadow is not UNSET and compare(bytes(served), bytes(shadow)).different:
            self._different(event.model, event.role).inc()

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

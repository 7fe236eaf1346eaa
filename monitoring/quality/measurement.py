"""Measures the live quality of each version that got labels, and publishes it."""

import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from time import monotonic

from confluent_kafka import KafkaException, Producer

from machine_learning_engineering.core.error_text import type_name
from machine_learning_engineering.core.faults import MachineFaultError, is_machine_fault
from machine_learning_engineering.events.schemas import QualityMeasured, encode
from machine_learning_engineering.events.topics import MEASUREMENTS
from machine_learning_engineering.kafka.client import producer_options, send, topic_name
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.settings import KernelSettings
from monitoring.elastic.client import FAILURES
from monitoring.model_version import ModelVersion
from monitoring.quality.evaluation import EvaluationError, Evaluator
from monitoring.quality.metrics import QualityMetrics
from monitoring.quality.rows import LabelledPredictions
from monitoring.runtime.retry import error_label
from monitoring.settings import LabelJoinerSettings

MAX_VERSIONS = 50
"""Maximum number of versions whose metrics are exposed: the ones measured last."""
_MAX_TOLD = 1_000
_PUBLISH_SECONDS = 30.0
_MILLISECOND = timedelta(milliseconds=1)


class Publisher:
    """Publishes measurements; each is acknowledged by all in-sync replicas, or it is an error."""

    def __init__(self, settings: KernelSettings) -> None:
        self._options = producer_options(settings)
        self._producer = Producer(self._options)
        self._topic = topic_name(settings, MEASUREMENTS)

    def __call__(self, event: QualityMeasured) -> None:
        """Publish one event.

        Raises:
            KafkaException: the broker rejects it.
            TimeoutError: it is not acknowledged in time; it may still arrive.
        """
        try:
            send(self._producer, self._topic, encode(event), event.model.encode(), _PUBLISH_SECONDS)
        except TimeoutError:
            # Perhaps the client has forgotten all brokers, see `kafka.broker_check`: a new one can connect.
            self._producer = Producer(self._options)
            raise


class QualityMonitor(threading.Thread):
    """Measures versions that got labels, each at most once per `quality_interval`.

    A thread of its own: metrics are code of the models, which may take long and must not block the joining.
    """

    def __init__(
        self,
        settings: LabelJoinerSettings,
        predictions: LabelledPredictions,
        evaluator: Evaluator,
        publish: Callable[[QualityMeasured], None],
        metrics: QualityMetrics,
        stopping: threading.Event,
    ) -> None:
        super().__init__(name="inflight-quality", daemon=True)
        self._settings = settings
        self._predictions = predictions
        self._evaluator = evaluator
        self._publish = publish
        self._metrics = metrics
        self._stopping = stopping
        self._lock = threading.Lock()
        self._dirty: set[ModelVersion] = set()
        self._exposed: dict[ModelVersion, tuple[float, list[tuple[str, ...]]]] = {}
        self._told: dict[ModelVersion, str] = {}

    def mark_dirty(self, versions: Iterable[ModelVersion]) -> None:
        """Measure these versions soon; callable from any thread."""
        with self._lock:
            self._dirty.update(versions)

    def run(self) -> None:
        known = False
        while not self._stopping.is_set():
            if not known:
                # Versions that got labels before this process started and may not have been measured since.
                known = self._mark_known_versions()
            self.measure_dirty()
            self._stopping.wait(self._settings.quality_interval)

    def measure_dirty(self) -> None:
        """Measure every version that got labels since the last call; failed ones are measured again at the next."""
        with self._lock:
            dirty, self._dirty = self._dirty, set()
        try:
            if dirty:
                self._predictions.refresh()
            for version in sorted(dirty):
                if self._stopping.is_set():
                    return
                try:
                    with self._metrics.duration.time():
                        event = self._try_measure(version)
                except MachineFaultError:
                    # It stays dirty.
                    continue
                if event is not None:
                    self._publish(event)
                dirty.discard(version)
        except (*FAILURES, KafkaException, TimeoutError) as error:
            log_event("label-joiner", "not_measured", cause=error_label(error))
        finally:
            self.mark_dirty(dirty)
        self._forget_old()

    def _try_measure(self, version: ModelVersion) -> QualityMeasured | None:
        try:
            return self.measure(version)
        except FAILURES:
            raise
        except EvaluationError as error:
            self._tell(version, "unmeasurable", str(error), problem=True)
            return None
        except Exception as error:
            if is_machine_fault(error):
                cause = type_name(error)
                log_event(
                    "label-joiner", "not_measured", model=version.model, model_version=version.version, cause=cause
                )
                raise MachineFaultError(cause) from error
            # Whatever is wrong with the documents or the model of a version, the others are still measured.
            log_event("label-joiner", "unmeasurable", model=version.model, model_version=version.version, cause=error)
            return None

    def measure(self, version: ModelVersion) -> QualityMeasured | None:
        """Measure a version and expose the metrics; None if there are too few rows or the model is unknown.

        Raises:
            EvaluationError: the metrics are undefined for its rows.
            elasticsearch.ApiError, elasticsearch.TransportError, UnexpectedResponse: the log can't be read.
        """
        rows = self._predictions.rows(version, self._since(), self._settings.quality_max_rows)
        if len(rows) < (least := self._settings.quality_min_rows):
            self._tell(version, "unmeasurable", f"{len(rows)} labelled predictions, at least {least} are needed")
            return None
        evaluation = self._evaluator.evaluate(version, [(prediction, label) for _, prediction, label in rows])
        if evaluation is None:
            self._tell(version, "unmeasurable", "no model of this name is installed here", problem=True)
            return None
        undefined = f"undefined for these labels: {', '.join(evaluation.undefined)}"
        self._tell(version, "partly_measured", undefined if evaluation.undefined else "", problem=True)
        _, before = self._exposed.pop(version, (0.0, []))
        series = self._metrics.set(version, evaluation)
        # A metric that these rows do not define must not keep its last value.
        self._metrics.remove_series([labels for labels in before if labels not in series])
        self._exposed[version] = (monotonic(), series)
        return QualityMeasured(
            model=version.model,
            model_version=version.version,
            measured_at=datetime.now(UTC),
            window_start=rows[-1][0],
            # The end of a window is exclusive.
            window_end=rows[0][0] + _MILLISECOND,
            rows=evaluation.rows,
            confidence=evaluation.confidence,
            metrics=evaluation.metrics,
        )

    def _tell(self, version: ModelVersion, event: str, reason: str, *, problem: bool = False) -> None:
        """Log why the quality of a version can't be measured, or not all of it, if that has changed."""
        if self._told.get(version, "") == reason:
            return
        if len(self._told) >= _MAX_TOLD:
            self._told.clear()
        self._told[version] = reason
        if reason:
            fields = {"cause" if problem else "reason": reason}
            log_event("label-joiner", event, model=version.model, model_version=version.version, **fields)

    def _since(self) -> datetime:
        return datetime.now(UTC) - timedelta(seconds=self._settings.quality_max_age)

    def _mark_known_versions(self) -> bool:
        try:
            self.mark_dirty(self._predictions.versions(self._since()))
        except FAILURES as error:
            log_event("label-joiner", "not_measured", cause=error_label(error))
            return False
        return True

    def _forget_old(self) -> None:
        """Stop exposing measurements that are too old to be live, and the oldest ones above `MAX_VERSIONS`."""
        oldest = monotonic() - self._settings.quality_max_age
        for version, (at, series) in list(self._exposed.items()):
            if at < oldest or len(self._exposed) > MAX_VERSIONS:
                del self._exposed[version]
                self._metrics.remove(version, series)

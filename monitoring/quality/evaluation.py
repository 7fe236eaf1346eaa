"""How good live answers are: the model's own metrics on the newest labelled answers of each version."""

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import NamedTuple, Protocol

from confluent_kafka import KafkaException, Producer

from machine_learning_engineering.events.schemas import LiveMetric, QualityMeasured, encode
from machine_learning_engineering.events.topics import MEASUREMENTS
from machine_learning_engineering.kafka.client import producer_options, topic_name
from machine_learning_engineering.observability.logging import log_event
from monitoring.labels.metrics import LabelJoinerMetrics
from monitoring.labels.store import Version
from monitoring.runtime.retry import FAILURES, cause_of
from monitoring.settings import LabelJoinerSettings

MAX_VERSIONS = 50
"""Of so many versions the metrics are exposed, the ones that were measured last."""
_PUBLISH_SECONDS = 30.0
MILLISECOND = timedelta(milliseconds=1)


class Evaluation(NamedTuple):
    """What a model says of answers: its metrics, which of them is the primary one, and on how many answers."""

    metrics: list[LiveMetric]
    primary: str
    rows: int
    confidence: float


class EvaluationError(Exception):
    """The metrics of these answers are not defined; the message says why."""


class Evaluator(Protocol):
    """The models' own opinion, which this room asks for and does not have."""

    def refusal(self, model: str, label: bytes) -> str | None:
        """Why a label (JSON text) is none of the model; None if it is one, or if the model is not known."""

    def judge(self, version: Version, answers: Sequence[tuple[bytes, bytes]]) -> Evaluation | None:
        """The metrics of answers, pairs of prediction and label (JSON texts); None if the model is not known.

        Raises:
            EvaluationError: they are not defined on these.
        """


class Answers(Protocol):
    """What is needed of `store.LabelStore`."""

    def refresh(self) -> None: ...
    def versions(self, since: datetime) -> list[Version]: ...
    def rows(self, version: Version, since: datetime, most: int) -> list[tuple[datetime, bytes, bytes]]: ...


class Publisher:
    """Publishes measurements; each is acknowledged by all in-sync replicas, or it is an error."""

    def __init__(self, settings: LabelJoinerSettings) -> None:
        self._producer = Producer(producer_options(settings))
        self._topic = topic_name(settings, MEASUREMENTS)

    def __call__(self, event: QualityMeasured) -> None:
        """Publish one event.

        Raises:
            KafkaException: it was refused.
            TimeoutError: it was not acknowledged in time; it may come yet.
        """
        errors: list[KafkaException] = []

        def told(error: object, _message: object) -> None:
            if error is not None:
                errors.append(KafkaException(error))

        self._producer.produce(self._topic, encode(event), event.model.encode(), on_delivery=told)
        if self._producer.flush(_PUBLISH_SECONDS):
            raise TimeoutError("no acknowledgement of a measurement")
        if errors:
            raise errors[0]


class Quality(threading.Thread):
    """Measures versions that got labels, each at most every `quality_interval`.

    In a thread of its own: the metrics are code of the models, which may take long and must not stop the joining.
    """

    def __init__(
        self,
        settings: LabelJoinerSettings,
        answers: Answers,
        judge: Evaluator,
        publish: Callable[[QualityMeasured], None],
        metrics: LabelJoinerMetrics,
        stopping: threading.Event,
    ) -> None:
        super().__init__(name="inflight-quality", daemon=True)
        self._settings = settings
        self._answers = answers
        self._judge = judge
        self._publish = publish
        self._metrics = metrics
        self._stopping = stopping
        self._lock = threading.Lock()
        self._touched: set[Version] = set()
        self._exposed: dict[Version, tuple[float, list[tuple[str, ...]]]] = {}

    def touch(self, versions: Iterable[Version]) -> None:
        """Measure these soon; from any thread."""
        with self._lock:
            self._touched.update(versions)

    def run(self) -> None:
        known = False
        while not self._stopping.is_set():
            if not known:
                # What got labels before this process started and was perhaps not measured any more.
                known = self._ask_for_versions()
            self.measure_touched()
            self._stopping.wait(self._settings.quality_interval)

    def measure_touched(self) -> None:
        """Measure every version that got labels since the last time; what can't be measured now is tried again."""
        with self._lock:
            touched, self._touched = self._touched, set()
        try:
            if touched:
                self._answers.refresh()
            for version in sorted(touched):
                if self._stopping.is_set():
                    return
                with self._metrics.measure.time():
                    event = self._measured(version)
                if event is not None:
                    self._publish(event)
                touched.discard(version)
        except (*FAILURES, KafkaException, TimeoutError) as error:
            log_event("joiner", "not_measured", cause=cause_of(error))
        finally:
            self.touch(touched)
        self._forget()

    def _measured(self, version: Version) -> QualityMeasured | None:
        try:
            return self.measure(version)
        except FAILURES:
            raise
        except Exception as error:
            # Whatever is wrong with a version's documents or its model, this thread is the only one for the others.
            log_event("joiner", "unmeasurable", model=version.model, model_version=version.version, cause=error)
            return None

    def measure(self, version: Version) -> QualityMeasured | None:
        """Measure a version, and expose the metrics; None if there is nothing to measure by.

        Raises:
            elasticsearch.ApiError, elasticsearch.TransportError, search.StrangeAnswerError: the log can't be read.
        """
        since = self._since()
        rows = self._answers.rows(version, since, self._settings.quality_max_rows)
        if len(rows) < self._settings.quality_min_rows:
            return None
        try:
            judged = self._judge.judge(version, [(prediction, label) for _, prediction, label in rows])
        except EvaluationError as error:
            log_event("joiner", "unmeasurable", model=version.model, model_version=version.version, cause=error)
            return None
        if judged is None:
            return None
        self._expose(version, judged)
        return QualityMeasured(
            model=version.model,
            model_version=version.version,
            measured_at=datetime.now(UTC),
            window_start=rows[-1][0],
            # The end does not belong to a window.
            window_end=rows[0][0] + MILLISECOND,
            rows=judged.rows,
            confidence=judged.confidence,
            metrics=judged.metrics,
        )

    def _since(self) -> datetime:
        return datetime.now(UTC) - timedelta(seconds=self._settings.quality_max_age)

    def _ask_for_versions(self) -> bool:
        try:
            self.touch(self._answers.versions(self._since()))
        except FAILURES as error:
            log_event("joiner", "not_measured", cause=cause_of(error))
            return False
        return True

    def _expose(self, version: Version, judged: Evaluation) -> None:
        shown: list[tuple[str, ...]] = []
        for metric in judged.metrics:
            labels = (*version, metric.name, "true" if metric.name == judged.primary else "false")
            self._metrics.quality.labels(*labels).set(metric.value)
            self._metrics.lower.labels(*labels).set(metric.lower)
            self._metrics.upper.labels(*labels).set(metric.upper)
            if isinstance(metric.reference, float):
                self._metrics.reference.labels(*labels).set(metric.reference)
            shown.append(labels)
        self._metrics.rows.labels(*version).set(judged.rows)
        self._exposed.pop(version, None)
        self._exposed[version] = (monotonic(), shown)

    def _forget(self) -> None:
        """Take back what was measured too long ago to be live, and what is too much."""
        oldest = monotonic() - self._settings.quality_max_age
        for version, (at, shown) in list(self._exposed.items()):
            if at >= oldest and len(self._exposed) <= MAX_VERSIONS:
                continue
            del self._exposed[version]
            self._metrics.rows.remove(*version)
            for labels in shown:
                for gauge in (self._metrics.quality, self._metrics.lower, self._metrics.upper, self._metrics.reference):
                    with suppress(KeyError):  # not every metric has a reference
                        gauge.remove(*labels)

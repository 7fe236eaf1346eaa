"""When live quality is measured, of what, and what of it is shown."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic

import pytest
from elastic_transport import ConnectionError as NoConnection
from msgspec import UNSET
from prometheus_client import CollectorRegistry

from inflight.settings import Settings
from machine_learning_engineering.events.schemas import LiveMetric, QualityMeasured
from machine_learning_engineering.observability.rate_limit import event_fields
from monitoring.model_version import ModelVersion
from monitoring.quality import measurement
from monitoring.quality.evaluation import Evaluation, EvaluationError
from monitoring.quality.measurement import QualityMonitor
from monitoring.quality.metrics import QualityMetrics

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
V1, V2 = ModelVersion("diamonds", "v1"), ModelVersion("diamonds", "v2")


class Log:
    """Labelled answers by version, and whether Elasticsearch is unreachable."""

    def __init__(self) -> None:
        self.answers: dict[ModelVersion, int] = {}
        self.away = False
        self.odd: set[ModelVersion] = set()
        self.asked: list[tuple[ModelVersion, int]] = []

    def refresh(self) -> None:
        if self.away:
            raise NoConnection("away")

    def versions(self, since: datetime) -> list[ModelVersion]:
        self.refresh()
        return list(self.answers)

    def rows(self, version: ModelVersion, since: datetime, max_rows: int) -> list[tuple[datetime, bytes, bytes]]:
        self.refresh()
        if version in self.odd:
            raise KeyError("_source")
        self.asked.append((version, max_rows))
        assert datetime.now(UTC) - since == pytest.approx(timedelta(days=30), abs=timedelta(minutes=5))
        return [(NOW - timedelta(seconds=n), b"1", b"2") for n in range(min(max_rows, self.answers.get(version, 0)))]


class Evaluator:
    def __init__(self) -> None:
        self.one_class: set[ModelVersion] = set()

    def rejection_reason(self, model: str, label: bytes) -> str | None:
        return None

    def evaluate(self, version: ModelVersion, predictions: Sequence[tuple[bytes, bytes]]) -> Evaluation | None:
        if version.version == "undefined":
            raise EvaluationError("one class only")
        if version in self.one_class:
            metrics = [LiveMetric("mae", 310.0, 290.0, 320.0, UNSET)]
            return Evaluation(metrics, "r2", len(predictions), 0.95, ("r2",))
        if version.model != "diamonds":
            return None
        metrics = [LiveMetric("r2", 0.9, 0.8, 0.95, 0.97), LiveMetric("mae", 300.0, 280.0, 310.0, UNSET)]
        return Evaluation(metrics, "r2", len(predictions), 0.95)


class Running:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.log = Log()
        self.evaluator = Evaluator()
        self.published: list[QualityMeasured] = []
        self.broker_is_away = False
        self.quality = QualityMonitor(
            Settings(_env_file=None, quality_max_rows=100),  # type: ignore[call-arg]
            self.log,  # type: ignore[arg-type]
            self.evaluator,
            self._publish,
            QualityMetrics(self.registry),
            threading.Event(),
        )

    def _publish(self, event: QualityMeasured) -> None:
        if self.broker_is_away:
            raise TimeoutError
        self.published.append(event)

    def shown(self, name: str, version: ModelVersion = V1, metric: str = "r2", primary: str = "true") -> float | None:
        labels = {"model": version.model, "model_version": version.version, "metric": metric, "primary": primary}
        return self.registry.get_sample_value(f"inflight_model_quality{name}", labels)


@pytest.fixture
def running() -> Running:
    return Running()


def test_a_version_that_got_labels_is_measured_once(running: Running) -> None:
    """By its newest answers; what got none is left alone."""
    running.log.answers = {V1: 250, V2: 250}
    running.quality.mark_dirty([V1])
    running.quality.mark_dirty([V1])
    running.quality.measure_dirty()
    running.quality.measure_dirty()
    assert running.log.asked == [(V1, 100)]
    [event] = running.published
    assert (event.model, event.model_version, event.rows, event.confidence) == ("diamonds", "v1", 100, 0.95)
    assert event.window_start == NOW - timedelta(seconds=99)
    assert event.window_end - NOW == timedelta(milliseconds=1)
    assert [metric.name for metric in event.metrics] == ["r2", "mae"]
    shown = (running.shown(""), running.shown("_lower"), running.shown("_upper"), running.shown("_reference"))
    assert shown == (0.9, 0.8, 0.95, 0.97)
    assert running.shown("", metric="mae", primary="false") == 300.0
    assert running.shown("_reference", metric="mae", primary="false") is None


def test_a_metric_that_is_no_longer_defined_is_taken_back_and_the_others_are_shown(
    running: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """And that is told once, not at each measurement."""
    running.log.answers = {V1: 50}
    running.quality.mark_dirty([V1])
    running.quality.measure_dirty()
    running.evaluator.one_class = {V1}
    for _ in range(3):
        running.quality.mark_dirty([V1])
        running.quality.measure_dirty()
    assert [[metric.name for metric in event.metrics] for event in running.published] == [["r2", "mae"], *[["mae"]] * 3]
    assert [running.shown(name) for name in ("", "_lower", "_upper", "_reference")] == [None] * 4
    assert running.shown("", metric="mae", primary="false") == 310.0
    assert [record.getMessage() for record in caplog.records] == ["partly measured"]
    assert event_fields(caplog.records[0])["inflight.cause"] == "undefined for these labels: r2"


def test_why_a_version_is_not_measured_is_told_once(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="inflight.label-joiner")
    few, undefined, unknown = (
        ModelVersion("diamonds", "few"),
        ModelVersion("diamonds", "undefined"),
        ModelVersion("nobody", "v1"),
    )
    running.log.answers = {few: 29, undefined: 50, unknown: 50}
    for _ in range(2):
        running.quality.mark_dirty(running.log.answers)
        running.quality.measure_dirty()
    told = [event_fields(record) for record in caplog.records]
    assert {(one["inflight.model.version"], one.get("inflight.cause", one.get("inflight.reason"))) for one in told} == {
        ("few", "29 labelled predictions, at least 30 are needed"),
        ("undefined", "one class only"),
        ("v1", "no model of this name is installed here"),
    }
    assert len(told) == 3


def test_too_few_answers_are_not_measured(running: Running) -> None:
    """Nor those that nobody here knows the model of, nor those that have no metric; the others still are."""
    others = [ModelVersion("diamonds", "few"), ModelVersion("diamonds", "undefined"), ModelVersion("nobody", "v1")]
    running.log.answers = dict.fromkeys([*others, V1], 50) | {others[0]: 29}
    running.quality.mark_dirty([*others, V1])
    running.quality.measure_dirty()
    assert [event.model_version for event in running.published] == ["v1"]


def test_what_could_not_be_measured_is_tried_again(running: Running) -> None:
    """Whether Elasticsearch or the broker is unreachable."""
    running.log.answers = {V1: 50, V2: 50}
    running.quality.mark_dirty([V1, V2])
    running.log.away = True
    running.quality.measure_dirty()
    running.log.away, running.broker_is_away = False, True
    running.quality.measure_dirty()
    assert running.published == []
    running.broker_is_away = False
    running.quality.measure_dirty()
    assert [event.model_version for event in running.published] == ["v1", "v2"]


def test_what_was_labelled_before_the_start_is_measured_at_the_start(running: Running) -> None:
    """The process before may have been killed before it could."""
    running.log.answers = {V1: 50}
    running.log.away = True
    assert not running.quality._mark_known_versions()
    running.log.away = False
    assert running.quality._mark_known_versions()
    running.quality.measure_dirty()
    assert [event.model_version for event in running.published] == ["v1"]


def test_the_metrics_of_old_versions_are_taken_back(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those measured too long ago, and of too many."""
    running.log.answers = {V1: 50, V2: 50}
    running.quality.mark_dirty([V1])
    running.quality.measure_dirty()
    monkeypatch.setattr(measurement, "MAX_VERSIONS", 1)
    running.quality.mark_dirty([V2])
    running.quality.measure_dirty()
    assert running.shown("") is None
    assert running.shown("", V2) == 0.9
    assert (
        running.registry.get_sample_value("inflight_model_quality_rows", {"model": "diamonds", "model_version": "v1"})
        is None
    )
    now = monotonic()
    monkeypatch.setattr(measurement, "monotonic", lambda: now + 31 * 86_400)
    running.quality.measure_dirty()
    assert running.shown("", V2) is None


def test_what_nobody_thought_of_does_not_end_the_measuring(running: Running) -> None:
    """A document that is none of ours, or a registry that can't be read: the other versions are measured."""
    running.log.answers = {V1: 50, V2: 50}
    running.log.odd = {V1}
    running.quality.mark_dirty([V1, V2])
    running.quality.measure_dirty()
    assert [event.model_version for event in running.published] == ["v2"]
    running.log.odd = set()
    running.quality.mark_dirty([V1])
    running.quality.measure_dirty()
    assert [event.model_version for event in running.published] == ["v2", "v1"]

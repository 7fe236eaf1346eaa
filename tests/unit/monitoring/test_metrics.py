"""What the exporter counts, and that every metric is described."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from msgspec import UNSET
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest

from inflight.retrainer.metrics import RetrainerMetrics
from machine_learning_engineering.dead_letters.letter import DeadLetterOrigin, dead_letter_headers
from machine_learning_engineering.dead_letters.writer import CONFLICT, REJECTED, STAGE
from machine_learning_engineering.evaluation.moments import Moments
from machine_learning_engineering.events.schemas import Error, PredictionLogged, encode
from machine_learning_engineering.events.unreadable import UNREADABLE_BATCH
from machine_learning_engineering.rollout.evidence import ArmEvidence, Evidence
from monitoring.archive.metrics import ArchiveMetrics
from monitoring.drift.metrics import DriftMonitorMetrics
from monitoring.exporter.metrics import DEAD_LETTER_REASONS, MODEL_ERRORS, OUTCOMES, ExporterMetrics
from monitoring.exporter.observer import Observer
from monitoring.feature_ingest.metrics import FeatureMetrics
from monitoring.indexer.metrics import IndexerMetrics
from monitoring.indexer.projections import PROJECTIONS
from monitoring.labels import reports
from monitoring.labels.metrics import LabelJoinerMetrics
from monitoring.quality.metrics import QualityMetrics
from monitoring.rollout.metrics import RolloutMetrics
from monitoring.rollout_evidence.metrics import EvidenceMetrics
from monitoring.runtime.groups import READS, WORKER
from monitoring.runtime.metrics import MAX_CHILDREN, UNKNOWN
from producers.gateway.metrics import GAUGES, GatewayMetrics
from stream_app.runtime.metrics import WorkerMetrics
from tests.support.rollout_records import CANARY, SHADOW, shadowed
from tests.support.rollout_records import logged as logged_arm

METRICS_PAGE = Path(__file__).parents[3] / "docs/metrics.md"
Logged = Callable[..., PredictionLogged]
MONITORING = (
    ExporterMetrics,
    IndexerMetrics,
    DriftMonitorMetrics,
    LabelJoinerMetrics,
    QualityMetrics,
    FeatureMetrics,
    ArchiveMetrics,
    RolloutMetrics,
    RetrainerMetrics,
)
EVIDENCE = ("counted_requests", "mature_requests", "labelled_requests", "mean_loss")
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def observer(registry: CollectorRegistry) -> Observer:
    return Observer(ExporterMetrics(registry))


def test_a_completed_request_is_counted_and_timed(
    registry: CollectorRegistry, observer: Observer, logged: Logged
) -> None:
    """Once in the counter, once in each stage."""
    observer.observe_log_record(encode(logged()))
    labels = {"model": "diamonds", "model_version": "3", "outcome": "completed"}
    assert registry.get_sample_value("inflight_predictions_total", labels) == 1
    for stage, seconds in (("queue", 0.001), ("score", 0.002), ("total", 0.0035)):
        labels = {"model": "diamonds", "stage": stage}
        assert registry.get_sample_value("inflight_prediction_latency_seconds_count", labels) == 1
        assert registry.get_sample_value("inflight_prediction_latency_seconds_sum", labels) == seconds


def test_observing_an_event_or_its_record_is_the_same(logged: Logged) -> None:
    """The partial view that the exporter decodes has all that the metrics need."""
    event = logged(error=Error("prediction_error", "no"), traceparent=TRACE)
    found = []
    for by_record in (True, False):
        registry = CollectorRegistry()
        observer = Observer(ExporterMetrics(registry))
        if by_record:
            observer.observe_log_record(encode(event))
        else:
            observer.observe(event)
        samples = [sample for family in registry.collect() for sample in family.samples]
        found.append(
            [
                sample[:3]
                for sample in samples
                if sample.name.startswith("inflight_prediction") and "_created" not in sample.name
            ]
        )
    assert found[0] == found[1]
    assert len(found[0]) > 40


def test_a_failure_is_counted_by_its_type(registry: CollectorRegistry, observer: Observer, logged: Logged) -> None:
    """Beside the outcome."""
    observer.observe(logged(error=Error("invalid_features", "no")))
    labels = {"model": "diamonds", "type": "invalid_features"}
    assert registry.get_sample_value("inflight_prediction_errors_total", labels) == 1


def test_models_that_do_not_exist_share_one_label(
    registry: CollectorRegistry, observer: Observer, logged: Logged
) -> None:
    """Else anybody could fill the memory of Prometheus with names."""
    for number in range(10):
        observer.observe(logged(model=f"no-{number}", model_version="1", error=Error("unknown_model", "no such model")))
    assert (
        registry.get_sample_value("inflight_prediction_errors_total", {"model": "unknown", "type": "unknown_model"})
        == 10
    )
    assert b"no-1" not in generate_latest(registry)


def test_labels_are_bounded_whatever_the_topic_holds(
    registry: CollectorRegistry, observer: Observer, logged: Logged
) -> None:
    """Forged log records and dead letters too."""
    for number in range(MAX_CHILDREN + 50):
        observer.observe(logged(model=f"m{number}"))
        observer.observe_dead_letter(f"r{number}", "decode")
    other = {"model": "other", "model_version": "other", "outcome": "other"}
    # Each version has a series for each outcome, from its first request on.
    assert registry.get_sample_value("inflight_predictions_total", other) == MAX_CHILDREN // 2 + 50
    versions = {
        (sample.labels["model"], sample.labels["outcome"])
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "inflight_predictions_total"
    }
    assert len(versions) == MAX_CHILDREN + 1
    assert registry.get_sample_value("inflight_dead_letters_total", {"reason": "other", "stage": "other"}) == 50


def test_dead_letters_are_counted_by_reason_and_stage(registry: CollectorRegistry, observer: Observer) -> None:
    """From their headers; one without any is counted all the same."""
    origin = DeadLetterOrigin("malformed_request", "m", "decode", "prediction-requests", 0, 1)
    observer.observe_dead_letter_record(list(dead_letter_headers(origin, None)))
    observer.observe_dead_letter_record(None)
    found = "inflight_dead_letters_total"
    assert registry.get_sample_value(found, {"reason": "malformed_request", "stage": "decode"}) == 1
    assert registry.get_sample_value(found, {"reason": "unknown", "stage": "unknown"}) == 1


@pytest.mark.parametrize("value", [None, b"", b"{", b"[" * 100_000, b'{"model":"\xff"}'])
def test_an_unreadable_log_record_is_counted(
    registry: CollectorRegistry, observer: Observer, value: bytes | None
) -> None:
    """And does not stop the exporter."""
    observer.observe_log_record(value)
    assert registry.get_sample_value("inflight_exporter_unreadable_records_total") == 1


def test_a_trace_becomes_an_exemplar(registry: CollectorRegistry, observer: Observer, logged: Logged) -> None:
    """So that a slow bucket leads to one of its requests."""
    observer.observe(logged(traceparent=TRACE))
    assert b'# {trace_id="4bf92f3577b34da6a3ce929d0e0e4736"}' in generate_latest(registry)


def test_the_age_of_the_log_is_that_of_the_newest_completion(
    registry: CollectorRegistry, observer: Observer, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older one that comes later does not make it older."""
    newest = logged()
    monkeypatch.setattr("monitoring.exporter.observer.time", lambda: newest.completed_at.timestamp() + 90)
    assert registry.get_sample_value("inflight_log_age_seconds") != registry.get_sample_value(
        "inflight_log_age_seconds"
    )
    observer.observe(newest)
    observer.observe(logged(completed_at=newest.completed_at.replace(hour=1)))
    assert registry.get_sample_value("inflight_log_age_seconds") == pytest.approx(90)


def declared(registry: CollectorRegistry) -> Iterable[tuple[str, str, str, str]]:
    """Name, type, unit and help of each metric of Inflight in a registry."""
    for family in registry.collect():
        if family.name.startswith("inflight_"):
            yield family.name, family.type, family.unit, family.documentation


def test_every_metric_has_a_unit_and_is_described() -> None:
    """docs/metrics.md has a line for each, with its unit, and none for what does not exist."""
    described = dict(re.findall(r"^\| `(inflight_\w+)` \|[^|]*\| (\w+) \|", METRICS_PAGE.read_text(), re.MULTILINE))
    found = {}
    for metrics in MONITORING:
        registry = CollectorRegistry()
        metrics(registry)
        for name, kind, unit, help_text in declared(registry):
            assert help_text.endswith(".")
            assert name.endswith(unit)
            found[name + ("_total" if kind == "counter" else "")] = unit or "1"
    of_the_worker = {
        name + ("_total" if kind == "counter" else "")
        for name, kind, _, help_text in declared(WorkerMetrics().registry)
        if help_text.endswith(".")
    }
    of_the_gateway = {
        name + ("_total" if kind == "counter" else "")
        for name, kind, _, help_text in declared(GatewayMetrics().registry)
        if help_text.endswith(".")
    }
    # Its gauges are read from parts of the process, which adds them.
    of_the_gateway |= {f"inflight_gateway_{name}" for name in GAUGES}
    assert described.keys() == found.keys() | of_the_worker | of_the_gateway
    assert {name: unit for name, unit in described.items() if name in found} == found


def test_the_worker_calls_its_group_as_we_do() -> None:
    """Rooms do not import one another, so the name is written twice."""
    from stream_app.faust_adapter.app import GROUP

    assert GROUP == WORKER
    assert set(READS) >= {WORKER}


def test_the_first_error_of_a_model_raises_a_counter_that_was_zero(
    registry: CollectorRegistry, observer: Observer, logged: Logged
) -> None:
    """Prometheus does not see the first value of a series: so each has one before something goes wrong."""
    observer.observe(logged())
    for outcome in OUTCOMES:
        labels = {"model": "diamonds", "model_version": "3", "outcome": outcome}
        assert registry.get_sample_value("inflight_predictions_total", labels) == (outcome == "completed")
    for error in MODEL_ERRORS:
        labels = {"model": "diamonds", "type": error}
        assert registry.get_sample_value("inflight_prediction_errors_total", labels) == 0
    labels = {"model": "unknown", "type": "unknown_model"}
    assert registry.get_sample_value("inflight_prediction_errors_total", labels) == 0


def test_every_reason_of_a_dead_letter_has_a_series_from_the_start(registry: CollectorRegistry) -> None:
    """Of every stage that rejects records, as it names its reasons."""
    decode = re.findall(
        r'InvalidRequest\(\s*"(\w+)"', (METRICS_PAGE.parents[1] / "stream_app/serving/request.py").read_text()
    )
    decode = [*decode, UNREADABLE_BATCH]
    index = {UNREADABLE_BATCH, CONFLICT, REJECTED, *(one.undecodable for one in PROJECTIONS.values())} - {
        "undecodable_dead_letter"
    }
    label = {
        UNREADABLE_BATCH,
        reports.UNDECODABLE,
        reports.INVALID,
        reports.WRONG_MODEL,
        reports.UNMATCHED,
        reports.REJECTED,
    }
    known = {stage: set(reasons) for stage, reasons in DEAD_LETTER_REASONS.items() if stage != UNKNOWN}
    assert known == {"decode": set(decode), STAGE: index, reports.STAGE: label}
    ExporterMetrics(registry)
    for stage, reasons in DEAD_LETTER_REASONS.items():
        for reason in reasons:
            labels = {"reason": reason, "stage": stage}
            assert registry.get_sample_value("inflight_dead_letters_total", labels) == 0


def test_counters_of_the_other_processes_begin_at_zero(registry: CollectorRegistry) -> None:
    """For every value that a label can have, as far as it is known."""
    for metrics in (IndexerMetrics, DriftMonitorMetrics, LabelJoinerMetrics, FeatureMetrics, ArchiveMetrics):
        registry = CollectorRegistry()
        metrics(registry)
        empty = {
            family.name
            for family in registry.collect()
            if family.type == "counter" and family.name.startswith("inflight_") and not family.samples
        }
        # The causes of retries are HTTP statuses and names of errors; versions are not known yet.
        retries = {f"inflight_{process}_retries" for process in ("indexer", "label_joiner", "archive")}
        assert empty <= retries | {"inflight_drift_windows"}


@pytest.mark.parametrize("metrics", MONITORING)
def test_every_process_tells_its_memory_and_when_it_started(metrics: Callable[[CollectorRegistry], object]) -> None:
    """Else neither a leak nor a crash loop is seen. Live quality is part of the label joiner."""
    registry = CollectorRegistry()
    metrics(registry)
    if metrics is QualityMetrics:
        LabelJoinerMetrics(registry)
    for found in (registry, WorkerMetrics().registry):
        for name in ("process_start_time_seconds", "process_resident_memory_bytes"):
            assert found.get_sample_value(name)


def test_arms_and_shadows_of_a_rollout_are_counted(registry: CollectorRegistry, observer: Observer) -> None:
    for number in range(3):
        observer.observe_log_record(encode(logged_arm(CANARY, number)))
    observer.observe_log_record(encode(logged_arm(CANARY, 3, "challenger", error="prediction_error")))
    for number, answer in enumerate((10.0, 10.0 + 1e-12, 11.0)):
        observer.observe_shadow_record(encode(shadowed(SHADOW, number, 10.0, answer)))
    observer.observe_shadow_record(encode(shadowed(SHADOW, 3, 1.0, 2.0, outcome="dropped", shadow_seconds=UNSET)))
    observer.observe_shadow_record(b"{")

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, {"model": "diamonds", **labels})

    assert value("inflight_rollout_requests_total", arm="champion", outcome="completed") == 3
    assert value("inflight_rollout_requests_total", arm="champion", outcome="failed") == 0
    assert value("inflight_rollout_requests_total", arm="challenger", outcome="failed") == 1
    assert value("inflight_rollout_score_seconds_count", arm="challenger") == 1 + 3
    assert value("inflight_rollout_shadows_total", role="challenger", outcome="completed") == 3
    assert value("inflight_rollout_shadows_total", role="challenger", outcome="dropped") == 1
    assert value("inflight_rollout_different_answers_total", role="challenger") == 2
    assert registry.get_sample_value("inflight_exporter_unreadable_records_total") == 1


def test_evidence_is_shown_until_its_rollout_ends(registry: CollectorRegistry) -> None:
    metrics = EvidenceMetrics(registry)
    labelled = ArmEvidence(version="v2", requests=9, mature=5, labelled=2, loss=Moments(2, 0.5))
    metrics.show("diamonds", Evidence(champion=ArmEvidence(version="v1"), challenger=labelled, labels_unknown=4))
    arm = {"model": "diamonds", "arm": "challenger"}
    found = [registry.get_sample_value(f"inflight_rollout_{name}", arm) for name in EVIDENCE]
    assert found == [9, 5, 2, 0.5]
    reason = {"model": "diamonds", "reason": "unknown"}
    assert registry.get_sample_value("inflight_rollout_left_out_labels", reason) == 4
    metrics.forget("diamonds")
    assert not [sample for metric in registry.collect() for sample in metric.samples]

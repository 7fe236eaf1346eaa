"""From scrapes to numbers and warnings."""

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from machine_learning_engineering.events.schemas import Error
from monitoring.exporter.metrics import ExporterMetrics
from monitoring.exporter.observer import Observed, Observer
from monitoring.top.overview import Overview
from monitoring.top.reading import OverviewReader
from monitoring.top.samples import Scrape, parse
from monitoring.top.sources import PROCESSES, Alert, ScrapeResult

WORKER = """
inflight_worker_records_total{outcome="completed"} %(completed)s
inflight_worker_records_total{outcome="failed"} 0
inflight_worker_records_total{outcome="dead_letter"} %(dead)s
inflight_worker_batch_records_sum %(completed)s
inflight_worker_batch_records_count %(batches)s
inflight_worker_oldest_batch_seconds %(oldest)s
inflight_worker_assigned_partitions 4
inflight_worker_model_info{model="diamonds",model_version="3"} 1
inflight_worker_model_refused{model="diamonds"} %(refused)s
"""
DRIFT_MONITOR = """
inflight_drift_psi{model="diamonds",model_version="3",field="features.carat"} 0.4
inflight_drift_psi{model="diamonds",model_version="3",field="features.x"} 0.01
inflight_drift_drifted_windows{model="diamonds",model_version="3",field="features.carat"} 2
inflight_drift_drifted_windows{model="diamonds",model_version="3",field="features.x"} 0
"""
LABEL_JOINER = """
inflight_model_quality{model="diamonds",model_version="3",metric="r2",primary="true"} 0.9
inflight_model_quality{model="diamonds",model_version="3",metric="mae",primary="false"} 90
inflight_model_quality_lower{model="diamonds",model_version="3",metric="r2",primary="true"} 0.88
inflight_model_quality_upper{model="diamonds",model_version="3",metric="r2",primary="true"} 0.92
inflight_model_quality_reference{model="diamonds",model_version="3",metric="r2",primary="true"} 0.98
"""
CALM = {"completed": 0, "dead": 0, "batches": 0, "oldest": 0.1, "refused": 0}


def answer(text: str, at: float) -> list[ScrapeResult]:
    return [ScrapeResult("http://x/metrics", Scrape(at, parse(text)))]


def away(problem: str = "not running") -> list[ScrapeResult]:
    return [ScrapeResult("http://x/metrics", None, problem)]


class Exporter:
    """The real exporter's metrics, without a broker."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = ExporterMetrics(self.registry)
        self.observer = Observer(self.metrics)

    def observe(self, count: int, seconds: float = 0.004, error: bool = False) -> None:
        event = {
            "model": "diamonds",
            "outcome": "failed" if error else "completed",
            "completed_at": "2026-01-01T00:00:00Z",
            "queue_seconds": 0.001,
            "score_seconds": 0.002,
            "total_seconds": seconds,
            "model_version": "3",
            **({"error": Error("prediction_error", "m")} if error else {}),
        }
        for _ in range(count):
            self.observer.observe(msgspec.convert(msgspec.to_builtins(event), Observed, strict=False))

    def page(self) -> str:
        return generate_latest(self.registry).decode()


def two_polls(exporter: Exporter, worker: tuple[dict[str, float], dict[str, float]], between: int = 0) -> Overview:
    seen = OverviewReader(60)
    for number, found in enumerate(worker):
        overview = seen.poll(
            {
                "worker": answer(WORKER % found, number * 10.0),
                "exporter": answer(exporter.page(), number * 10.0),
                "indexer": away(),
                "drift-monitor": away(),
                "label-joiner": away(),
            },
            [],
        )
        if not number:
            exporter.observe(between)
            exporter.metrics.lag.labels("inflight-worker", "prediction-requests").set(50)
    return overview


def test_a_stream_that_is_well() -> None:
    """Throughput and latency by model, from the metrics that the exporter really serves."""
    exporter = Exporter()
    exporter.metrics.lag.labels("inflight-worker", "prediction-requests").set(30)
    exporter.observe(5, seconds=40.0)
    found = two_polls(exporter, (CALM, {**CALM, "completed": 1_000, "batches": 10}), between=200)
    assert found.per_second == 100
    (model,) = found.models
    assert (model.name, model.versions, model.completed_per_second) == ("diamonds", ["3"], 20.0)
    assert model.total.p50 == pytest.approx(0.00375)
    assert model.total.p99 is not None
    assert model.total.p99 < 0.005
    assert found.worker is not None
    assert found.worker.batch_records == 100
    (lag,) = found.lags
    assert (lag.records, lag.change_per_second) == (50, 2.0)
    assert found.indexer is None
    assert found.warnings == []
    assert msgspec.json.decode(msgspec.json.encode(found), type=Overview) == found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dead": 100}, "dead letters per second"),
        ({"oldest": 45.0}, "waiting for 45 s"),
        ({"refused": 1}, "could not be opened"),
    ],
)
def test_what_is_wrong_with_a_worker_is_said(change: dict[str, float], words: str) -> None:
    """In a sentence."""
    (warning,) = two_polls(Exporter(), (CALM, {**CALM, "completed": 1_000, "batches": 1, **change})).warnings
    assert words in warning


def test_what_is_wrong_with_a_model_is_said() -> None:
    """Failures, and a p99 above the objective."""
    seen, exporter = OverviewReader(60), Exporter()
    away_ones = {name: away() for name in ("indexer", "drift-monitor", "label-joiner")}
    for at in (0.0, 10.0):
        pages = {"worker": answer(WORKER % CALM, at), "exporter": answer(exporter.page(), at)}
        found = seen.poll({**pages, **away_ones}, [])
        exporter.observe(90)
        exporter.observe(10, seconds=3.0, error=True)
    assert found.warnings == ["diamonds raises for 10% of the requests", "diamonds is slow: the p99 is 4.8 s"]


def test_drift_live_quality_and_alerts() -> None:
    """From the drift monitor, the label joiner and Prometheus."""
    answers = {
        "worker": answer(WORKER % CALM, 0.0),
        "exporter": away("no response within 2 s"),
        "indexer": away(),
        "drift-monitor": answer(DRIFT_MONITOR, 0.0),
        "label-joiner": answer(LABEL_JOINER, 0.0),
    }
    alerts = [
        Alert("InflightStalled", "firing", "critical", "Nothing is answered"),
        Alert("X", "pending", "warning", ""),
    ]
    found = OverviewReader(60).poll(answers, alerts)
    (drift,) = found.drift
    assert (drift.field, drift.psi, drift.drifted) == ("features.carat", 0.4, ["features.carat"])
    (quality,) = found.quality
    assert (quality.metric, quality.value, quality.lower, quality.reference) == ("r2", 0.9, 0.88, 0.98)
    assert found.warnings == [
        "InflightStalled is firing: Nothing is answered",
        "no exporter is running: predictions, dead letters and lag are unknown",
        "exporter at http://x/metrics: no response within 2 s",
        "diamonds 3 has drifted in features.carat",
        "r2 of diamonds 3 is 0.9; in training it was 0.98",
    ]


def test_of_two_drift_monitors_the_larger_psi_counts() -> None:
    """Each has windows of its own; a field is listed once."""
    small = DRIFT_MONITOR.replace(" 0.4", " 0.01")
    results = [
        ScrapeResult(f"http://{n}/metrics", Scrape(0.0, parse(text))) for n, text in enumerate((DRIFT_MONITOR, small))
    ]
    (drift,) = OverviewReader(60).poll({"worker": answer(WORKER % CALM, 0.0), "drift-monitor": results}, []).drift
    assert (drift.field, drift.psi, drift.drifted) == ("features.carat", 0.4, ["features.carat"])


def test_nothing_runs() -> None:
    """The worst first; and an alert server that is away is no reason to show nothing."""
    found = OverviewReader(60).poll({name: away() for name in ("worker", "exporter")}, "not running")
    assert found.warnings == [
        "no worker is running at http://x/metrics: if one runs elsewhere, give --worker ADDRESS",
        "no exporter is running: predictions, dead letters and lag are unknown",
        "alerts cannot be read: not running",
    ]
    assert found.per_second is None


def test_a_broker_that_does_not_answer_is_said() -> None:
    """As any exporter has it whom it answers."""
    seen, ages = OverviewReader(60), [40.0, 31.0]
    exporters = [Exporter(), Exporter()]
    for exporter, age in zip(exporters, ages, strict=True):
        exporter.metrics.lag_checked.set(age)
    pages = [ScrapeResult(f"http://{n}/metrics", Scrape(0.0, parse(one.page()))) for n, one in enumerate(exporters)]
    answers = {"worker": answer(WORKER % CALM, 0.0), "exporter": pages}
    assert seen.poll(answers, []).warnings == ["the broker has not responded for 31 s: is it reachable?"]
    exporters[1].metrics.lag_checked.set(2.0)
    answers["exporter"][1] = ScrapeResult("http://1/metrics", Scrape(1.0, parse(exporters[1].page())))
    assert seen.poll(answers, []).warnings == []
    assert seen.poll({**answers, "exporter": away()}, []).lag_age_seconds is None


def test_a_lag_that_grows_is_a_problem_once_it_is_large() -> None:
    """Not the few records that are always under way."""
    seen, exporter = OverviewReader(60), Exporter()
    for number, records in enumerate((20_000, 30_000)):
        exporter.metrics.lag.labels("inflight-indexer", "prediction-logs").set(records)
        found = seen.poll(
            {"worker": answer(WORKER % CALM, number * 10.0), "exporter": answer(exporter.page(), number * 10.0)}, []
        )
    assert found.warnings == ["inflight-indexer is 30,000 records behind on prediction-logs and growing"]


def test_a_lag_is_compared_however_slow_the_interval_is() -> None:
    """With an interval longer than the window there is still the look before."""
    seen, exporter = OverviewReader(15), Exporter()
    for number, records in enumerate((20_000, 30_000)):
        exporter.metrics.lag.labels("inflight-indexer", "prediction-logs").set(records)
        found = seen.poll({"exporter": answer(exporter.page(), number * 20.0)}, [])
    assert [lag.change_per_second for lag in found.lags] == [500.0]


SERIES = """
inflight_predictions_total 4
inflight_prediction_latency_seconds_bucket 5
inflight_worker_model_info 1
inflight_worker_records_total 4
inflight_dead_letters_total 4
inflight_drift_psi 4
inflight_drift_drifted_windows 4
inflight_model_quality 4
inflight_consumer_lag_records 4
"""


def test_a_page_without_labels_is_no_crash() -> None:
    """What another release, or another program, calls by these names."""
    seen = OverviewReader(60)
    for number in range(2):
        found = seen.poll({name: answer(SERIES, number * 10.0) for name in PROCESSES}, [])
    assert [model.name for model in found.models] == [""]


def test_a_version_that_was_refused_is_a_warning_until_it_is_not() -> None:
    """After a rollback it is over, whatever was counted before."""
    seen = OverviewReader(60)
    for number, (refused, count) in enumerate(((1, 1), (0, 0))):
        pages = {"worker": answer(WORKER % {**CALM, "refused": refused}, number * 10.0), "exporter": _idle(number)}
        assert len(seen.poll(pages, []).warnings) == count


def _idle(at: float) -> list[ScrapeResult]:
    return answer(Exporter().page(), at)


def test_few_requests_at_fault_are_no_warning() -> None:
    """One among eight, failed, slow and dead-lettered; and those that senders got wrong are theirs."""
    seen, exporter = OverviewReader(60), Exporter()
    for at, dead in ((0.0, 0), (10.0, 1)):
        found = seen.poll(
            {"worker": answer(WORKER % {**CALM, "dead": dead}, at), "exporter": answer(exporter.page(), at)}, []
        )
        exporter.observe(6)
        exporter.observe(1, seconds=3.0)
        exporter.observe(1, error=True)
    (model,) = found.models
    assert (model.requests, model.prediction_errors, model.slow) == (8, 1, 1)
    assert found.warnings == []


def test_one_drifted_window_is_no_warning() -> None:
    """Two consecutive ones are, as for the alert."""
    page = DRIFT_MONITOR.replace("} 2", "} 1")
    found = OverviewReader(60).poll(
        {"worker": answer(WORKER % CALM, 0.0), "exporter": _idle(0), "drift-monitor": answer(page, 0.0)}, []
    )
    assert (found.drift[0].drifted, found.drift[0].consecutive, found.warnings) == (["features.carat"], [], [])


@pytest.mark.parametrize(("version", "reference", "count"), [("3", 0.5, 0), ("3", 0.98, 1), ("2", 0.98, 0)])
def test_only_a_served_version_that_is_worse_than_in_training_is_a_warning(
    version: str, reference: float, count: int
) -> None:
    """Better is good news."""
    page = LABEL_JOINER.replace('"3"', f'"{version}"').replace("0.98", str(reference))
    found = OverviewReader(60).poll(
        {"worker": answer(WORKER % CALM, 0.0), "exporter": _idle(0), "label-joiner": answer(page, 0.0)}, []
    )
    assert len(found.warnings) == count


def lagging(group: str, topic: str, **values: float) -> list[ScrapeResult]:
    """An exporter that has this of a group's lag."""
    exporter = Exporter()
    metrics = exporter.metrics
    gauges = {
        "records": metrics.lag,
        "age": metrics.lag_age,
        "stalled": metrics.stalled,
        "committed": metrics.committed,
    }
    for name, gauge in gauges.items():
        gauge.labels(group, topic).set(values.get(name, 0))
    return answer(exporter.page(), 0.0)


@pytest.mark.parametrize(
    ("group", "values", "words"),
    [
        ("inflight-worker", {"records": 3, "stalled": 130}, "has processed nothing on prediction-logs for 130 s"),
        ("inflight-worker", {"records": 3, "stalled": 110}, ""),
        ("inflight-label-joiner", {"records": 3, "stalled": 610, "committed": 4}, "has processed nothing"),
        ("inflight-label-joiner", {"records": 3, "age": 1_200, "committed": 4}, "20 minutes behind"),
        ("inflight-label-joiner", {"records": 3, "age": 800, "committed": 4}, ""),
    ],
)
def test_a_group_that_stands_still_or_is_late_is_a_warning(group: str, values: dict[str, float], words: str) -> None:
    """However few records wait."""
    found = OverviewReader(60).poll(
        {
            "worker": answer(WORKER % CALM, 0.0),
            "label-joiner": answer("x 1", 0.0),
            "exporter": lagging(group, "prediction-logs", **values),
        },
        [],
    )
    assert [words in warning for warning in found.warnings] == ([True] if words else [])


@pytest.mark.parametrize(
    ("values", "warnings"),
    [
        ({"records": 900, "committed": 4}, ["indexer is not running, and 900 records wait for it"]),
        ({"records": 0, "committed": 4}, ["indexer is not running"]),
        # It has never run, and nobody wants it.
        ({"records": 900, "stalled": 9_000, "age": 9_000}, []),
    ],
)
def test_a_process_that_is_down_is_a_warning_if_it_is_in_use(values: dict[str, float], warnings: list[str]) -> None:
    """Its group has committed offsets before."""
    answers = {
        "worker": answer(WORKER % CALM, 0.0),
        "indexer": away(),
        "exporter": lagging("inflight-indexer", "prediction-logs", **values),
    }
    found = OverviewReader(60).poll(answers, [])
    assert found.warnings == warnings


def test_one_of_two_workers_that_is_down_is_a_warning() -> None:
    """The other one does its work."""
    workers = [*answer(WORKER % CALM, 0.0), *away()]
    found = OverviewReader(60).poll({"worker": workers, "exporter": _idle(0)}, [])
    assert found.warnings == ["worker at http://x/metrics: not running"]

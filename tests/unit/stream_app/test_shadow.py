"""The shadow: a real child process, and whatever its model does, every request has one outcome and the worker lives."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.schemas import PredictionShadowed
from machine_learning_engineering.registry.registry import Registry
from stream_app.serving.arms import ShadowBatch, ShadowPlan
from stream_app.serving.outcomes import PendingRequest, ScoredBatch
from stream_app.shadow import scoring
from stream_app.shadow.metrics import ShadowMetrics
from stream_app.shadow.process import ShadowEnded, ShadowProcess
from stream_app.shadow.scoring import Shadows
from tests.support import shadow_model
from tests.support.request_records import batch_of, record
from tests.support.scorer_outputs import TOPICS
from tests.support.shadow_model import Faulty, save
from tests.support.waiting import until

PLAN = ShadowPlan("9f1c2a7b", "line", "challenger", "v1", "v2")
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    found = Registry(tmp_path_factory.mktemp("registry"))
    save(found, 2.0, 3.0)
    return found


class Producer:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[PredictionShadowed] = []

    def send(self, records: Any) -> None:
        for key, value in records:
            found = events.decode_shadow(value)
            assert events.encode(found) == value
            assert key == found.request_id.encode()
            self.sent.append(found)

    def poll(self) -> None:
        pass

    def close(self) -> None:
        pass


class Bench:
    """Shadows of a worker whose outcomes go to a list."""

    def __init__(self, registry: Registry, timeout: float = 60.0) -> None:
        self.producer = Producer()
        self.registry = CollectorRegistry()
        self.metrics = ShadowMetrics(self.registry)
        self.started: list[ShadowProcess] = []
        self.timeout = timeout
        self._models = registry
        self.shadows = Shadows(self._start, lambda: self.producer, self.metrics)  # type: ignore[arg-type,return-value]
        self.sent = 0

    def _start(self, plan: ShadowPlan, is_stopping: Callable[[], bool]) -> ShadowProcess:
        child = ShadowProcess(
            self._models,
            plan.model,
            plan.shadow_version,
            Faulty,
            timeout=self.timeout,
            memory_bytes=1024 * MIB,
            is_stopping=is_stopping,
        )
        self.started.append(child)
        return child

    def offer(self, *numbers: float) -> list[str]:
        """Hand over requests that the champion has answered; returns their ids."""
        ids = [f"r-{self.sent + index}" for index in range(len(numbers))]
        records = [record(b"{}", one.encode(), offset=self.sent + index) for index, one in enumerate(ids)]
        self.sent += len(numbers)
        scored = ScoredBatch.empty(batch_of(*records), TOPICS)
        features = [events.Raw(b'{"number":%r}' % n) if n == n else events.Raw(b"{}") for n in numbers]
        rows = [
            PendingRequest(events.PredictionRequested(name, "line", one), None, found, None, scored, 1_000_000 + index)
            for index, (name, one, found) in enumerate(zip(ids, features, records, strict=True))
        ]
        answers = [b'{"answer":%r}' % (2 * n if n == n else 0) for n in numbers]
        self.shadows.offer([ShadowBatch(PLAN, rows, answers, 1_010.0, 0.5)])
        return ids

    def outcomes(self, ids: list[str], seconds: float = 120.0) -> list[PredictionShadowed]:
        """Those of these requests, once each has one."""
        until(lambda: len(self.producer.sent) >= self.sent, seconds, "each request has an outcome")
        found = {one.request_id: one for one in self.producer.sent}
        assert len(found) == len(self.producer.sent) == self.sent
        return [found[name] for name in ids]

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(f"inflight_worker_shadow_{name}", {"model": "line", **labels}) or 0.0


@pytest.fixture(scope="module")
def bench(registry: Registry) -> Iterator[Bench]:
    """One for all tests: a child's start takes seconds of a processor."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(scoring, "FIRST_PAUSE", 0.01)
        patched.setattr(scoring, "LONGEST_PAUSE", 0.01)
        # A shadow gets no settings and no secrets of the worker.
        patched.setenv("INFLIGHT_LOG_REDACT_KEY", "a secret")
        patched.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
        found = Bench(registry)
        found.shadows.follow([PLAN])
        yield found
        found.shadows.stop()
        assert all(child.pid == 0 for child in found.started)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_pairs(bench: Bench) -> None:
    """What both versions answer to the same request; its time and place are those of the log record."""
    found = bench.outcomes(bench.offer(1.0, 2.5, 4.0))
    assert [events.parse(one.prediction) for one in found] == [{"answer": 2.0}, {"answer": 5.0}, {"answer": 8.0}]
    answers = [events.parse(one.shadow_prediction)["answer"] for one in found]
    assert answers == pytest.approx([3.0, 7.5, 12.0])
    first = bench.sent - 3
    places = [(one.outcome, one.partition, one.offset - first) for one in found]
    assert places == [("completed", 0, n) for n in range(3)]
    assert [one.accepted_at.timestamp() for one in found] == pytest.approx([1_000.0, 1_000.001, 1_000.002])
    for one in found:
        assert (one.rollout_id, one.role, one.served_version, one.shadow_version) == (
            "9f1c2a7b",
            "challenger",
            "v1",
            "v2",
        )
        assert one.served_seconds == 0.5
        assert 0 < one.shadow_seconds < 60
        assert one.memory_bytes > 10 * MIB
    assert bench.value("up", model_version="v2") == 1
    pid = bench.started[-1].pid
    assert os.getpriority(os.PRIO_PROCESS, pid) == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"OMP_NUM_THREADS=1" in environment
    assert b"a secret" not in environment


def test_what_fails_alone_fails_alone(bench: Bench) -> None:
    """An exception, NaN, what is no JSON, and features that it does not take. Nothing of a value is told."""
    faults = (shadow_model.RAISE, shadow_model.NAN, shadow_model.UNENCODABLE, float("nan"), shadow_model.PRINT)
    started = len(bench.started)
    bench.outcomes(bench.offer(1.0))
    before = bench.value("records_total", outcome="failed")
    found = bench.outcomes(bench.offer(1.0, *faults, 2.0))
    assert [one.outcome for one in found] == ["completed", *["failed"] * 4, "completed", "completed"]
    kinds = [one.error.type for one in found if isinstance(one.error, events.Error)]
    assert kinds == ["prediction_error"] * 3 + ["invalid_features"]
    assert "secret" not in repr(found)
    assert [one.prediction for one in found[1:4]]
    assert bench.value("records_total", outcome="failed") == before + 4
    assert len(bench.started) == max(1, started)


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (shadow_model.EXIT, "ended with exit code 1"),
        (shadow_model.HANG, "took too long"),
        (shadow_model.ALLOCATE, "bytes of memory; 1,073,741,824 are allowed"),
    ],
    ids=["exit", "hang", "allocate"],
)
def test_a_model_that_ends_its_process_fails_what_it_was_asked(bench: Bench, number: float, why: str) -> None:
    """And no more than that: a new process goes on with the next."""
    first = bench.offer(1.0)
    assert bench.outcomes(first)[0].outcome == "completed"
    started = len(bench.started)
    if number == shadow_model.HANG:
        bench.started[-1]._timeout = 0.5
    bad = bench.offer(number, 3.0)
    after = bench.offer(4.0)
    assert [one.outcome for one in bench.outcomes([*bad, *after])] == ["failed", "failed", "completed"]
    errors = [one.error for one in bench.outcomes(bad) if isinstance(one.error, events.Error)]
    assert all(why in error.message for error in errors), errors
    assert len(bench.started) == started + 1


def test_a_process_that_was_killed_is_replaced_and_one_that_is_not_planned_ends(bench: Bench) -> None:
    """What comes later for a shadow that is not planned is counted as lost."""
    bench.outcomes(bench.offer(1.0))
    os.kill(bench.started[-1].pid, 9)
    assert [one.outcome for one in bench.outcomes(bench.offer(2.0))] in (["completed"], ["failed"])
    assert [one.outcome for one in bench.outcomes(bench.offer(3.0))] == ["completed"]
    pid, sent = bench.started[-1].pid, len(bench.producer.sent)
    lost = bench.registry.get_sample_value("inflight_worker_shadow_lost_total") or 0.0
    bench.shadows.follow([])
    until(lambda: not is_alive(pid), 60, "the child has ended")
    bench.offer(2.0)
    assert bench.registry.get_sample_value("inflight_worker_shadow_lost_total") == lost + 1
    assert len(bench.producer.sent) == sent


def test_what_a_shadow_has_no_time_for_is_dropped_and_said(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue is bounded, and so is the time in it; nobody waits."""
    monkeypatch.setattr(scoring, "MAX_WAITING", 4)
    monkeypatch.setattr(scoring, "LATE_SECONDS", 0.0)
    bench = Bench(registry)

    def never(plan: ShadowPlan, is_stopping: Callable[[], bool]) -> ShadowProcess:
        raise ShadowEnded("it is not there")

    bench.shadows._start = never
    bench.shadows.follow([PLAN])
    late, full = bench.offer(1.0, 2.0), bench.offer(3.0, 4.0, 5.0)
    found = bench.outcomes([*late, *full])
    assert [one.outcome for one in found] == ["dropped"] * 5
    assert [events.parse(one.prediction) for one in found] == [{"answer": 2.0 * n} for n in range(1, 6)]
    assert bench.value("records_total", outcome="dropped") == 5
    bench.shadows.stop()


def test_a_version_that_is_not_there_is_tried_again_later(
    registry: Registry, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said once."""
    monkeypatch.setattr(scoring, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(scoring, "IDLE_SECONDS", 0.01)
    bench = Bench(registry)
    bench.shadows.follow([PLAN._replace(shadow_version="v9")])
    until(lambda: bench.value("restarts_total") >= 3, 60, "it was tried three times")
    bench.shadows.stop()
    assert caplog.text.count("line v9 in the shadow") == 1

"""Rollouts on a real broker with real workers: the split is the pure function, and a shadow costs no answer."""

import json
import os
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from msgspec import UNSET

from inflight.settings import Settings
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.schemas import PredictionCompleted, RolloutChanged
from machine_learning_engineering.events.topics import LOGS, MODEL_EVENTS, REQUESTS, RESULTS, SHADOWS
from machine_learning_engineering.kafka.client import producer_options, read_to_end, topic_name
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.rollout.split import Splitter
from tests.support import shadow_model
from tests.support.programs.streaming import Program, running
from tests.support.rollout_arms import SALT, keep, rollout
from tests.support.shadow_model import save
from tests.support.waiting import figures, until

REQUESTED = 20_000
CUSTOMERS = 4_000
SECONDS = 300.0


@pytest.fixture
def registry(settings: Settings) -> Registry:
    found = Registry(settings.registry_dir)
    save(found, 2.0, 3.0)
    return found


class Bench:
    """The topics of one test, and the rollout of its model."""

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self.settings, self.registry = settings, registry
        self._producer = Producer({**producer_options(settings), "linger.ms": 20})
        self.sent = 0

    def change(self, stage: Any, percent: int, **changes: Any) -> None:
        """The next step of the rollout, announced as the controller announces it."""
        keep(self.registry, rollout(stage, percent, model="line", **changes))
        event = RolloutChanged(
            model="line",
            rollout_id="9f1c2a7b",
            step=percent,
            action="widened",
            changed_at=datetime.now(UTC),
            by="a test",
            reason="a test",
            stage=stage,
            percent=percent,
            champion="v1",
            challenger="v2",
        )
        self._producer.produce(topic_name(self.settings, MODEL_EVENTS), events.encode(event), b"rollout/line")
        assert self._producer.flush(120) == 0

    def send(self, *numbers: float, customers: int = CUSTOMERS) -> None:
        for number in numbers:
            features = {"number": number, "customer": f"c-{self.sent % customers}"}
            value = json.dumps({"request_id": f"r-{self.sent}", "model": "line", "features": features}).encode()
            self._producer.produce(topic_name(self.settings, REQUESTS), value)
            self.sent += 1
            self._producer.poll(0)

    def flush(self) -> None:
        assert self._producer.flush(120) == 0

    def results(self) -> list[events.Result]:
        return [events.decode_result(one.value() or b"") for one in read_to_end(self.settings, RESULTS)]

    def shadows(self) -> dict[str, events.PredictionShadowed]:
        found = [events.decode_shadow(one.value() or b"") for one in read_to_end(self.settings, SHADOWS)]
        return {one.request_id: one for one in found}

    def answered(self, worker: Program | list[Program]) -> None:
        workers = worker if isinstance(worker, list) else [worker]
        until(lambda: sum(one.completed() for one in workers) >= self.sent, SECONDS, "all requests are answered")


@pytest.fixture
def bench(settings: Settings, registry: Registry) -> Bench:
    return Bench(settings, registry)


@pytest.fixture
def worker(settings: Settings, bench: Bench) -> Iterator[Any]:
    """Starts workers, which are killed at the end."""
    with ExitStack() as stack:

        def start() -> Program:
            changes = {"worker_metrics_port": 0, "worker_model_poll_interval": 3_600.0, "kafka_session_timeout": 6.0}
            return stack.enter_context(running("rollout_worker", settings, **changes))

        yield start


def percent_of(program: Program) -> float | None:
    return program.metrics().get('inflight_worker_rollout_percent{model="line"}')


def test_a_ramp_while_requests_flow(bench: Bench, worker: Any) -> None:
    """No key changes its arm within a percentage, none is lost, and each answer is that of the version it names.

    One worker is killed in the middle, and another one starts in the middle.
    """
    bench.change("canary", 5, policy={"key": "customer"})
    first, second = worker(), worker()
    until(lambda: percent_of(first) == percent_of(second) == 5, SECONDS, "both have the percentage")
    numbers = iter([float(number) for number in range(1, REQUESTED + 1)])
    for percent in (5, 25, 50):
        bench.change("canary", percent, policy={"key": "customer"})
        for part in range(5):
            bench.send(*(next(numbers) for _ in range(REQUESTED // 15)))
            bench.flush()
            if part == 2:
                until(lambda wanted=percent: percent_of(first) == wanted, SECONDS, "a worker has the percentage")
        if percent == 5:
            until(lambda: second.completed() + first.completed() > 0, SECONDS, "requests are answered")
            second.process.send_signal(signal.SIGKILL)
            third = worker()
    bench.send(*numbers)
    bench.flush()
    until(lambda: percent_of(first) == percent_of(third) == 50, SECONDS, "both have the last percentage")
    ids = {f"r-{number}" for number in range(REQUESTED)}
    until(lambda: {one.request_id for one in bench.results()} == ids, SECONDS, "each request has a result")
    split, seen = Splitter(SALT), Counter[tuple[int, str]]()
    for result in bench.results():
        assert isinstance(result, PredictionCompleted)
        number = int(result.request_id[2:])
        assert result.rollout is not UNSET
        arm = result.rollout
        is_new = split.is_challenger(f"c-{number % CUSTOMERS}".encode(), arm.percent)
        assert (arm.arm, result.model_version) == (("challenger", "v2") if is_new else ("champion", "v1"))
        answer = events.parse(result.prediction)["answer"]
        assert answer == pytest.approx((number + 1) * (3 if is_new else 2))
        seen[arm.percent, arm.arm] += 1
    assert {percent for percent, _ in seen} == {5, 25, 50}
    by_id = defaultdict(set)
    for log in (events.decode_log(one.value() or b"") for one in read_to_end(bench.settings, LOGS)):
        assert log.rollout is not UNSET
        by_id[log.request_id].add((log.model_version, log.rollout.arm))
    assert by_id.keys() == ids
    figures(seen=dict(seen))


def test_a_shadow_from_its_start_to_the_rollback(bench: Bench, worker: Any) -> None:
    """Whatever the challenger does, the champion's answers are there, as they would be without it."""
    faults = (shadow_model.RAISE, shadow_model.NAN, shadow_model.EXIT, shadow_model.ALLOCATE, shadow_model.HANG)
    bench.change("shadow", 0)
    program = worker()
    up = 'inflight_worker_shadow_up{model="line",model_version="%s"}'
    until(lambda: program.metrics().get(up % "v2") == 1, SECONDS, "the challenger is in the shadow")
    # The challenger is of no use after these: it hangs until its time is over.
    bench.send(*map(float, range(1, 301)))
    bench.flush()
    bench.answered(program)
    until(lambda: len(bench.shadows()) == 300, SECONDS, "each has a pair")
    pairs = bench.shadows()
    for result in bench.results():
        pair = pairs[result.request_id]
        assert isinstance(result, PredictionCompleted)
        assert (result.model_version, pair.outcome, pair.role) == ("v1", "completed", "challenger")
        assert pair.prediction == result.prediction
        assert events.parse(pair.shadow_prediction)["answer"] == pytest.approx(
            1.5 * events.parse(result.prediction)["answer"]
        )
    for fault in faults:
        bench.send(fault, *[1.0] * 20)
        bench.flush()
        bench.answered(program)
    # No answer had to wait for any of that, and none is the challenger's.
    results = bench.results()
    assert len(results) == len({one.request_id for one in results}) == bench.sent
    assert {one.model_version for one in results} == {"v1"}
    assert all(isinstance(one, PredictionCompleted) for one in results)
    assert program.process.poll() is None
    # Promoted: the champion of before is the shadow, and nothing is opened for the way back.
    bench.registry.promote("line", "v2", reason="rollout 9f1c2a7b")
    bench.change("bake", 100)
    until(lambda: percent_of(program) == 100, SECONDS, "the challenger answers all")
    until(lambda: program.metrics().get(up % "v1") == 1, SECONDS, "the champion of before is in the shadow")
    before = bench.sent
    bench.send(*map(float, range(1, 51)))
    bench.flush()
    bench.answered(program)
    wanted = {f"r-{number}" for number in range(before, bench.sent)}
    until(lambda: wanted <= bench.shadows().keys(), SECONDS, "each has a pair again")
    pairs = bench.shadows()
    assert {(pairs[name].role, pairs[name].shadow_version, pairs[name].outcome) for name in wanted} == {
        ("champion", "v1", "completed")
    }
    bench.registry.rollback("line")
    bench.change("finished", 100, outcome="rolled_back")
    info = 'inflight_worker_model_info{model="line",model_version="v1"}'
    until(lambda: program.metrics().get(info) == 1, SECONDS, "the champion answers again")
    bench.send(1.0)
    bench.flush()
    bench.answered(program)
    last = {one.request_id: one for one in bench.results()}[f"r-{bench.sent - 1}"]
    assert (last.model_version, last.rollout) == ("v1", UNSET)


def test_the_shadow_ends_with_a_worker_that_is_killed(bench: Bench, worker: Any) -> None:
    """In the middle of a prediction, too."""
    bench.change("shadow", 0)
    program = worker()
    up = 'inflight_worker_shadow_up{model="line",model_version="v2"}'
    until(lambda: program.metrics().get(up) == 1, SECONDS, "the challenger is in the shadow")
    children = children_of(program.process.pid)
    assert len(children) == 1
    bench.send(shadow_model.HANG)
    bench.flush()
    bench.answered(program)
    program.process.kill()
    program.process.wait()
    until(lambda: not any(map(is_running, children)), 60, "no process is left")
    assert [one.model_version for one in bench.results()] == ["v1"]


def children_of(pid: int) -> list[int]:
    """By every thread that has started one."""
    found = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for children in found for child in children]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False

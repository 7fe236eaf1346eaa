"""The watchdog, with a worker that stalls in each of the known ways."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from stream_app.runtime import watchdog
from stream_app.runtime.metrics import WorkerMetrics
from stream_app.runtime.watchdog import Watchdog

LIMIT = 0.2
UNREACHABLE = KafkaException(KafkaError(KafkaError._TRANSPORT))
HANGS = "hangs"


class Worker:
    """Everything that the watchdog checks; a test sets what is unusual."""

    def __init__(self, **state: Any) -> None:
        self.behind: Any = 0
        self.oldest: tuple[str, int, float] | None = None
        self.polls = True
        self.is_in_call = False
        self.unacknowledged = 0
        self.in_flight = 0
        self.moves = False
        self.rebalancing = False
        self.failure: BaseException | None = None
        self.should_stop = False
        self.in_loop: Callable[[], Any] = lambda: None
        self.reasons: list[str] = []
        self.ended = threading.Event()
        self._asked = itertools.count()
        self._created = monotonic()
        for name, value in state.items():
            assert hasattr(self, name), name
            setattr(self, name, value)

    async def ask(self) -> int:
        asked = next(self._asked)
        if self.behind == HANGS:
            await asyncio.Event().wait()
        answer = self.behind(asked) if callable(self.behind) else self.behind
        if isinstance(answer, Exception):
            raise answer
        return int(answer)

    def exit_with(self, reason: str) -> None:
        self.reasons.append(reason)
        self.should_stop = True
        self.ended.set()

    @property
    def app(self) -> Any:
        worker = self

        class Poller:
            buffered_bytes = 0
            is_in_call = worker.is_in_call

            @property
            def last_poll(self) -> float:
                return monotonic() if worker.polls else worker._created

        class App:
            consumer = SimpleNamespace(
                tracker=SimpleNamespace(oldest=lambda: worker.oldest),
                poller=Poller(),
                behind=worker.ask,
                assignment=set,
            )

            @property
            def rebalancing(self) -> bool:
                return worker.rebalancing

            @property
            def should_stop(self) -> bool:
                worker.in_loop()
                return worker.should_stop

        return App()

    @property
    def scheduler(self) -> Any:
        worker = self

        class Scheduler:
            in_flight = worker.in_flight

            @property
            def last_progress(self) -> float:
                return monotonic() if worker.moves else worker._created

        return Scheduler()

    def run(self, monkeypatch: pytest.MonkeyPatch, seconds: float, broker_timeout: float = 60.0) -> list[str]:
        """Reasons for which it was ended within `seconds`; it is checked every few milliseconds."""
        monkeypatch.setattr(watchdog, "TICK_SECONDS", 0.005)
        publisher: Any = SimpleNamespace(unacknowledged=lambda: self.unacknowledged, failure=self.failure)

        async def main() -> None:
            checked = Watchdog(
                self.app,
                self.scheduler,
                publisher,
                WorkerMetrics(),
                LIMIT,
                self.exit_with,
                broker_timeout=broker_timeout,
            )
            watching = asyncio.create_task(checked.run())
            await asyncio.wait([watching], timeout=seconds)
            self.should_stop = True
            await watching

        asyncio.run(main())
        return self.reasons


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        pytest.param({"behind": 7}, "7 requests wait in the assigned partitions", id="not-fetched"),
        pytest.param(
            {"behind": 7, "in_flight": 2, "unacknowledged": 3}, "2 batches are in flight, 3 outputs", id="producer"
        ),
        pytest.param({"in_flight": 1}, "1 batches are in flight", id="scheduler-of-an-earlier-assignment"),
        pytest.param({"oldest": ("p0", 42, LIMIT + 1)}, "p0 is stuck at offset 42", id="batch"),
        pytest.param(
            {"oldest": ("p0", 42, LIMIT + 1), "moves": True, "in_flight": 1, "unacknowledged": 3},
            "p0 is stuck at offset 42",
            id="batch-while-others-move",
        ),
        pytest.param({"polls": False}, "has not polled", id="consumer-thread"),
        pytest.param({"polls": False, "behind": HANGS}, "has not polled", id="consumer-thread-that-answers-no-call"),
        pytest.param({"failure": RuntimeError()}, "publisher's thread has ended: RuntimeError", id="publisher-thread"),
        pytest.param(
            {"behind": lambda asked: 7 if asked % 2 else UNREACHABLE},
            "7 requests wait in the assigned partitions",
            id="queries-that-fail-now-and-then",
        ),
    ],
)
def test_a_stalled_worker_is_ended(state: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever holds the requests up, the process ends with the reason."""
    (found,) = Worker(**state).run(monkeypatch, 60)
    assert reason in found


@pytest.mark.parametrize("state", [{}, {"polls": False}, {"polls": False, "behind": HANGS}], ids=str)
def test_a_rebalance_that_does_not_end(state: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """It may take longer than the limit, because it waits for other members; but not for ever."""
    assert Worker(rebalancing=True, **state).run(monkeypatch, 5 * LIMIT) == []
    monkeypatch.setattr(watchdog, "REBALANCE_SECONDS", 0.0)
    (reason,) = Worker(rebalancing=True, **state).run(monkeypatch, 60)
    assert "a rebalance has not ended" in reason or "has not polled" in reason


def test_a_call_to_the_broker_may_take_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """But not for ever, either."""
    assert Worker(polls=False, is_in_call=True).run(monkeypatch, 5 * LIMIT) == []
    monkeypatch.setattr(watchdog, "REBALANCE_SECONDS", 0.0)
    assert Worker(polls=False, is_in_call=True).run(monkeypatch, 60)


def test_a_broker_that_is_unreachable_for_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Perhaps only this client can no longer connect: a new process finds out."""
    (reason,) = Worker(behind=UNREACHABLE).run(monkeypatch, 60, broker_timeout=2 * LIMIT)
    assert "the broker has not responded" in reason


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"behind": 7, "in_flight": 1, "moves": True},
        {"behind": UNREACHABLE},
        {"behind": UNREACHABLE, "in_flight": 2, "unacknowledged": 3},
        {"behind": UNREACHABLE, "oldest": ("p0", 42, LIMIT + 1), "unacknowledged": 3},
        {"behind": UNREACHABLE, "rebalancing": True},
        {"oldest": ("p0", 42, LIMIT / 2)},
        {"behind": 7, "rebalancing": True},
    ],
    ids=str,
)
def test_a_worker_that_waits_for_a_good_reason_is_left_alone(
    state: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No requests, work that moves, a rebalance, or an unreachable broker."""
    assert Worker(**state).run(monkeypatch, 5 * LIMIT) == []


def test_an_outage_does_not_count_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the broker is back, the worker has the whole limit again to make progress."""
    back_at = monotonic() + 4 * LIMIT

    def behind(_: int) -> int | Exception:
        return UNREACHABLE if monotonic() < back_at else 7

    worker = Worker(behind=behind, in_flight=1, unacknowledged=3)
    assert worker.run(monkeypatch, 4.5 * LIMIT) == []
    worker = Worker(behind=behind, in_flight=1, unacknowledged=3)
    assert worker.run(monkeypatch, 60)


def test_a_rebalance_does_not_count_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """When it ends, the worker has the whole limit again to finish a batch."""
    ends_at = monotonic() + 4 * LIMIT

    def end_rebalance() -> None:
        worker.rebalancing = monotonic() < ends_at

    worker = Worker(behind=7, rebalancing=True)
    worker.in_loop = end_rebalance
    assert worker.run(monkeypatch, 4.5 * LIMIT) == []
    worker = Worker(behind=7)
    assert worker.run(monkeypatch, 60)


def test_an_event_loop_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchdog runs on it, so a thread watches both."""
    monkeypatch.setattr(watchdog, "STOP_SECONDS", 0.0)
    worker = Worker()
    worker.in_loop = lambda: worker.ended.wait(60)
    (reason,) = worker.run(monkeypatch, 0.0)
    assert "the event loop, or the stop, has hung" in reason


def test_a_stop_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The event loop no longer checks then, and the process would stay in the group for ever."""
    monkeypatch.setattr(watchdog, "STOP_SECONDS", 0.0)
    worker = Worker(should_stop=True)
    worker.run(monkeypatch, 60)
    assert worker.ended.wait(60)
    assert "the stop, has hung" in worker.reasons[0]


def test_a_process_that_was_paused_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread counts its own ticks: SIGSTOP stops both it and the event loop."""
    monkeypatch.setattr(watchdog, "STOP_SECONDS", 60.0)
    worker = Worker(should_stop=True)
    worker.run(monkeypatch, 60)
    time.sleep(5 * LIMIT)
    assert not worker.reasons

"""The watchdog, with a consumer and a scheduler that stall in each of the known ways."""

import asyncio
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


def behind_by(records: int | Exception) -> Callable[[], Any]:
    async def behind() -> int:
        if isinstance(records, Exception):
            raise records
        return records

    return behind


def reasons(
    monkeypatch: pytest.MonkeyPatch,
    *,
    behind: int | Exception = 0,
    oldest: tuple[str, int, float] | None = None,
    since_poll: float = 0.0,
    unacknowledged: int = 0,
    in_flight: int = 0,
    rebalancing: bool = False,
    seconds: float = 5 * LIMIT,
) -> list[str]:
    """Reasons for which the worker was ended within `seconds`; it is checked every few milliseconds."""
    monkeypatch.setattr(watchdog, "TICK_SECONDS", 0.005)
    poller = SimpleNamespace(buffered_bytes=0, last_poll=monotonic() - since_poll)
    if not since_poll:
        poller = SimpleNamespace(buffered_bytes=0, last_poll=float("inf"))
    consumer = SimpleNamespace(
        tracker=SimpleNamespace(oldest=lambda: oldest), poller=poller, behind=behind_by(behind), assignment=set
    )
    app = SimpleNamespace(consumer=consumer, should_stop=False, rebalancing=rebalancing)
    scheduler: Any = SimpleNamespace(in_flight=in_flight, last_progress=monotonic())
    publisher: Any = SimpleNamespace(unacknowledged=lambda: unacknowledged)
    found: list[str] = []

    def exit_with(reason: str) -> None:
        found.append(reason)
        app.should_stop = True

    async def run() -> None:
        watching = asyncio.create_task(Watchdog(app, scheduler, publisher, WorkerMetrics(), LIMIT, exit_with).run())
        await asyncio.wait([watching], timeout=seconds)
        app.should_stop = True
        await watching

    asyncio.run(run())
    return found


@pytest.mark.parametrize(
    ("stalled", "reason"),
    [
        ({"behind": 7}, "7 requests wait in the assigned partitions"),
        ({"oldest": ("p0", 42, LIMIT + 1)}, "p0 is stuck at offset 42"),
        ({"since_poll": LIMIT + 1}, "has not polled"),
    ],
)
def test_a_stalled_worker_is_ended(stalled: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stuck batch, a stuck thread, and partitions that are assigned but not fetched."""
    (found,) = reasons(monkeypatch, **stalled, seconds=60)
    assert reason in found


@pytest.mark.parametrize(
    "well",
    [
        {},
        {"behind": 7, "in_flight": 1},
        {"behind": 7, "rebalancing": True},
        {"behind": KafkaException(KafkaError(KafkaError._TRANSPORT))},
        {"oldest": ("p0", 42, LIMIT / 2)},
        {"oldest": ("p0", 42, LIMIT + 1), "unacknowledged": 3},
        {"since_poll": LIMIT + 1, "rebalancing": True},
    ],
)
def test_a_worker_that_waits_for_a_good_reason_is_left_alone(
    well: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No requests, batches in flight, a rebalance, or an unreachable broker."""
    assert reasons(monkeypatch, **well) == []


def test_a_rebalance_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is scored during one, and there is no other sign of it."""
    assert reasons(monkeypatch, rebalancing=True) == []
    monkeypatch.setattr(watchdog, "REBALANCE_SECONDS", 0.0)
    (reason,) = reasons(monkeypatch, rebalancing=True)
    assert reason.startswith("a rebalance has not ended for ")

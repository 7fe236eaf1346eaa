"""The scheduler: batches in, acknowledged outputs out, several in flight at once."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError

from machine_learning_engineering.core.faults import MachineFaultError
from stream_app.runtime import scheduler
from stream_app.runtime.breaker import Breaker
from stream_app.runtime.metrics import WorkerMetrics
from stream_app.runtime.scheduler import TARGET_BATCH_BYTES, BatchScheduler
from stream_app.serving.batch import PartitionBatch
from stream_app.serving.outcomes import OutputTopics, ScoredBatch
from stream_app.serving.outputs import OutputRecord
from stream_app.serving.scorer import Scorer
from tests.support.request_records import Doubling, requests

Done = Callable[[KafkaError | None], None]
DEADLINE = 120.0


class FakeEvent:
    """A Faust event of one batch."""

    def __init__(self, batch: PartitionBatch) -> None:
        self.value = batch
        self.acked = 0

    def ack(self) -> bool:
        self.acked += 1
        return True


class FakePublisher:
    """A broker that acknowledges when the test says so."""

    def __init__(self) -> None:
        self.published: list[tuple[list[OutputRecord], Done]] = []

    def publish(self, outputs: Mapping[str, list[OutputRecord]], partition: int, done: Done) -> None:
        self.published.append(([record for records in outputs.values() for record in records], done))

    def acknowledge(self, index: int, error: KafkaError | None = None) -> None:
        """From another thread, as the client does."""
        thread = threading.Thread(target=self.published[index][1], args=(error,))
        thread.start()
        thread.join()


class GatedScorer(Scorer):
    """Scores only while the gate is open, and records the partition batches of each call."""

    def __init__(self) -> None:
        super().__init__({"doubling": Doubling()}, OutputTopics("results", "logs", "dead"), max_request_bytes=1_000)
        self.gate = threading.Event()
        self.gate.set()
        self.calls: list[list[PartitionBatch]] = []
        self.raising: Exception | None = None

    def score(self, batches: Sequence[PartitionBatch]) -> list[ScoredBatch]:
        self.calls.append(list(batches))
        assert self.gate.wait(DEADLINE)
        if self.raising is not None:
            raise self.raising
        return super().score(batches)


def _records(batches: Sequence[PartitionBatch]) -> int:
    return sum(len(batch.records) for batch in batches)


class Bench:
    """A scheduler between fakes."""

    def __init__(self, *, max_in_flight: int = 4, max_batch_records: int = 1_000) -> None:
        self.scorer, self.publisher, self.metrics = GatedScorer(), FakePublisher(), WorkerMetrics()
        self.bugs: list[str] = []
        self.scheduler = BatchScheduler(
            self.scorer,
            self.publisher,  # type: ignore[arg-type]
            self.metrics,
            max_in_flight=max_in_flight,
            max_batch_records=max_batch_records,
            on_bug=self.bugs.append,
        )
        # Warm: fast batches went before.
        self.scheduler.batch_limit = max_batch_records

    async def submit(self, *events: FakeEvent) -> None:
        for event in events:
            await self.scheduler.submit(event)

    def takes(self, seconds_per_record: float, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make scoring take this time, by the scheduler's clock."""
        calls = self.scorer.calls
        monkeypatch.setattr(scheduler, "monotonic", lambda: sum(map(_records, calls)) * seconds_per_record)

    async def all_in_one_go(self, count: int) -> None:
        """Submit `count` requests, in batches of one, which wait all together."""
        self.scorer.gate.clear()
        await self.submit(*(FakeEvent(requests(number, first=number)) for number in range(count)))
        await until(lambda: self.scorer.calls)
        self.scorer.gate.set()
        await until(lambda: len(self.publisher.published) == count)

    @property
    def sizes(self) -> list[int]:
        """Records of each scoring batch."""
        return [_records(found) for found in self.scorer.calls]

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.001)


def run(scenario: Callable[[Bench], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Run a scenario with a scheduler on an event loop of its own."""

    async def main() -> None:
        bench = Bench(**options)
        try:
            await scenario(bench)
        finally:
            bench.scorer.gate.set()
            bench.scheduler._thread.shutdown()

    asyncio.run(main())


def test_a_batch_is_acknowledged_when_all_of_its_outputs_are() -> None:
    """And once."""

    async def scenario(bench: Bench) -> None:
        event = FakeEvent(requests(1, 2, 3))
        await bench.submit(event)
        await until(lambda: bench.publisher.published)
        assert len(bench.publisher.published[0][0]) == 6
        assert (event.acked, bench.scheduler.in_flight) == (0, 1)
        bench.publisher.acknowledge(0)
        await until(lambda: event.acked)
        assert (event.acked, bench.scheduler.in_flight, bench.bugs) == (1, 0, [])
        assert bench.value("inflight_worker_records_total", outcome="completed") == 3

    run(scenario)


def test_an_output_that_the_broker_refuses_is_never_acknowledged() -> None:
    """The process ends instead, so that the batch is scored again."""

    async def scenario(bench: Bench) -> None:
        event = FakeEvent(requests(1))
        await bench.submit(event)
        await until(lambda: bench.publisher.published)
        bench.publisher.acknowledge(0, KafkaError(KafkaError._MSG_TIMED_OUT))
        await until(lambda: bench.bugs)
        assert event.acked == 0
        assert "not accepted by the broker" in bench.bugs[0]

    run(scenario)


@pytest.mark.parametrize("where", ["score", "publish"])
def test_an_unknown_bug_ends_the_process(where: str) -> None:
    """Nothing is acknowledged."""

    async def scenario(bench: Bench) -> None:
        event = FakeEvent(requests(1))
        if where == "score":
            bench.scorer.raising = RuntimeError("a bug")
        else:
            bench.publisher.published = None  # type: ignore[assignment]
        await bench.submit(event)
        await until(lambda: bench.bugs)
        assert (event.acked, bench.bugs) == (0, ["bug in the worker"])

    run(scenario)


def test_no_more_batches_are_taken_than_may_be_in_flight() -> None:
    """That is the backpressure: `submit` waits, so Faust waits, so the buffer fills and fetching pauses."""

    async def scenario(bench: Bench) -> None:
        events = [FakeEvent(requests(number, first=number)) for number in range(3)]
        await bench.submit(*events[:2])
        third = asyncio.ensure_future(bench.submit(events[2]))
        await until(lambda: len(bench.publisher.published) == 2)
        assert not third.done()
        assert bench.scheduler.in_flight == 2
        bench.publisher.acknowledge(0)
        await asyncio.wait_for(third, DEADLINE)
        await until(lambda: len(bench.publisher.published) == 3)
        assert [event.acked for event in events] == [1, 0, 0]

    run(scenario, max_in_flight=2)


def test_all_waiting_batches_are_scored_together() -> None:
    """The first does not wait for others; those that arrive meanwhile share the next predict call."""

    async def scenario(bench: Bench) -> None:
        bench.scorer.gate.clear()
        events = [FakeEvent(requests(number, partition=number)) for number in range(4)]
        await bench.submit(events[0])
        await until(lambda: bench.scorer.calls)
        await bench.submit(*events[1:])
        bench.scorer.gate.set()
        await until(lambda: len(bench.publisher.published) == 4)
        assert bench.scorer.calls == [[events[0].value], [event.value for event in events[1:]]]

    run(scenario)


def test_a_scoring_batch_is_bounded_in_records() -> None:
    """This bounds the time until its first result, too. One partition batch is always taken, however large."""

    async def scenario(bench: Bench) -> None:
        bench.scorer.gate.clear()
        sizes = [1, 3, 3, 9, 1]
        events = [FakeEvent(requests(*range(size), partition=number)) for number, size in enumerate(sizes)]
        await bench.submit(events[0])
        await until(lambda: bench.scorer.calls)
        await bench.submit(*events[1:])
        bench.scorer.gate.set()
        await until(lambda: len(bench.publisher.published) == 5)
        assert [[len(batch.records) for batch in found] for found in bench.scorer.calls] == [[1], [3, 3], [9], [1]]

    run(scenario, max_batch_records=6, max_in_flight=8)


@pytest.mark.parametrize(
    ("seconds_per_record", "sizes"),
    [
        (0.001, [1, 2, 4, 8, 16, 32, 64, 64, 9]),
        (0.25, [1, 2, 4, 8, 8, 8, 8, 8]),
        (30.0, [1, 1, 1, 1, 1]),
    ],
)
def test_scoring_batches_grow_while_they_are_fast(
    seconds_per_record: float, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scoring batch of a slow model takes seconds, so that it is committed soon; one of a fast model is full."""

    async def scenario(bench: Bench) -> None:
        bench.takes(seconds_per_record, monkeypatch)
        bench.scheduler.batch_limit = 1
        await bench.all_in_one_go(sum(sizes))
        assert bench.sizes == sizes

    run(scenario, max_batch_records=64, max_in_flight=1_000)


def test_a_model_that_becomes_slow_gets_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the next one on."""

    async def scenario(bench: Bench) -> None:
        bench.takes(0.5, monkeypatch)
        await bench.all_in_one_go(64 + 4 + 4)
        assert bench.sizes == [64, 4, 4]

    run(scenario, max_batch_records=64, max_in_flight=1_000)


def test_acknowledgements_may_come_in_any_order() -> None:
    """Each batch is acknowledged by its own; the tracker decides which offset that allows."""

    async def scenario(bench: Bench) -> None:
        events = [FakeEvent(requests(number, first=number)) for number in range(3)]
        await bench.submit(*events)
        await until(lambda: len(bench.publisher.published) == 3)
        published = [outputs[0][0] for outputs, _ in bench.publisher.published]
        assert published == [b"0-0", b"0-1", b"0-2"]
        for index, expected in ((2, [0, 0, 1]), (0, [1, 0, 1]), (1, [1, 1, 1])):
            bench.publisher.acknowledge(index)
            await until(lambda expected=expected: [event.acked for event in events] == expected)
        assert bench.scheduler.in_flight == 0

    run(scenario)


def test_the_event_loop_is_free_during_scoring() -> None:
    """Faust's commits and heartbeats continue."""

    async def scenario(bench: Bench) -> None:
        bench.scorer.gate.clear()
        await bench.submit(FakeEvent(requests(1)))
        await until(lambda: bench.scorer.calls)
        assert threading.current_thread() is threading.main_thread()
        assert not bench.publisher.published

    run(scenario)


def test_a_batch_that_comes_when_the_scheduler_was_idle_is_scored() -> None:
    """Again and again: the scoring task ends when nothing waits."""

    async def scenario(bench: Bench) -> None:
        for number in range(50):
            event = FakeEvent(requests(number))
            await bench.submit(event)
            await until(lambda number=number: len(bench.publisher.published) > number)
            bench.publisher.acknowledge(number)
            await until(lambda event=event: event.acked)

    run(scenario)


def test_libraries_that_are_loaded_later_get_one_thread_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A promoted version may need one that none of the others does. The limit is set where models predict."""
    limited: list[str] = []
    monkeypatch.setattr(
        scheduler, "cap_numeric_threads", lambda: limited.append(threading.current_thread().name.rpartition("_")[0])
    )

    async def scenario(bench: Bench) -> None:
        await bench.submit(FakeEvent(requests(1)))
        await until(lambda: limited)
        bench.scheduler.cap_threads()
        await until(lambda: len(limited) == 2)

    run(scenario)
    assert limited == ["inflight-score", "inflight-score"]


def test_a_model_with_large_predictions_gets_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """The outputs of all batches in flight are held in memory: they are bounded in bytes, not only in requests."""
    # However slow the machine is.
    monkeypatch.setattr(scheduler, "TARGET_BATCH_SECONDS", 1e9)
    for first, sizes in ((64, [64, 31]), (1, [1, 2, 4, 8, 16, 32, 31])):

        async def scenario(bench: Bench, first: int = first, sizes: list[int] = sizes) -> None:
            bench.scorer.serve({"doubling": Wide(TARGET_BATCH_BYTES // 64)})
            bench.scheduler.batch_limit = first
            await bench.all_in_one_go(sum(sizes))
            assert bench.sizes == sizes

        run(scenario, max_batch_records=64, max_in_flight=1_000)


class Wide(Doubling):
    """Answers each request with that many bytes."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def predict(self, rows: Sequence[Any]) -> list[Any]:
        return ["x" * self.size for _ in rows]


def test_a_fault_of_the_machine_ends_the_process_and_answers_nothing() -> None:
    """Nothing is acknowledged: the next worker scores the requests again."""

    async def scenario(bench: Bench) -> None:
        event = FakeEvent(requests(1))
        bench.scorer.raising = MachineFaultError("raised OSError for 30 s")
        await bench.submit(event)
        await until(lambda: bench.bugs)
        assert (event.acked, bench.publisher.published, bench.bugs) == (0, [], ["raised OSError for 30 s"])

    run(scenario)


def test_the_breaker_opens_before_the_failures_are_published() -> None:
    """A deployment after which most requests fail must not answer them all with failures."""

    async def scenario(bench: Bench) -> None:
        bench.scheduler._breaker = Breaker(0.5, 4)
        good, bad = FakeEvent(requests(1, 2, 3)), FakeEvent(requests(*"abcde", first=3))
        await bench.submit(good)
        await until(lambda: bench.publisher.published)
        await bench.submit(bad)
        await until(lambda: bench.bugs)
        assert len(bench.publisher.published) == 1
        assert bad.acked == 0
        assert bench.bugs[0].startswith("5 of the last 5 requests failed or became dead letters")

    run(scenario)

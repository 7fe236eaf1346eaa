"""The consumer between Faust and the pump, without a broker: rebalances, late acknowledgements, memory."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from faust.types import TP

from machine_learning_engineering.settings import Settings
from stream_app.topology import create_app
from stream_app.transport import consumer as consumer_module
from stream_app.transport.consumer import Consumer
from stream_app.transport.driver import TransportOptions
from stream_app.transport.slices import Slice

from .records import REQUESTS, requests

A, B = TP(REQUESTS, 0), TP(REQUESTS, 1)
DEADLINE = 20.0


class Lane:
    async def put(self, event: Any) -> None:
        raise AssertionError("no stream runs here")


class Bench:
    """A consumer whose pump is never started: the test plays the broker."""

    def __init__(self, home: Path) -> None:
        options = TransportOptions(
            consumer={"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0},
            publisher=None,  # type: ignore[arg-type]
            slice_records=10,
            buffer_bytes=10_000,
        )
        self.app = create_app(Settings(_env_file=None, home=home), Lane(), options)  # type: ignore[arg-type]
        self.revoked: Callable[[], Coroutine[Any, Any, None]] | None = None
        self.consumer: Consumer = self.app.transport.create_consumer(
            callback=self._nothing, on_partitions_revoked=self._revoked, on_partitions_assigned=self._nothing
        )

    async def _nothing(self, *_: Any) -> None:
        pass

    async def _revoked(self, _: Any) -> None:
        if self.revoked is not None:
            await self.revoked()

    async def assign(self, *tps: TP) -> None:
        await self.consumer._take_over(set(tps))
        # Faust says so when it has handed the partitions to the agents.
        self.app.on_rebalance_end()

    async def revoke(self, *tps: TP, lost: bool = False) -> dict[TP, int]:
        return await self.consumer._let_go(set(tps), lost=lost)

    def fetched(self, *slices: Slice) -> None:
        for slice_ in slices:
            self.consumer.pump._bytes_in += slice_.size
            self.consumer.pump._buffer.append(slice_)

    async def taken(self) -> list[Any]:
        return [message async for _, message in self.consumer.getmany(0.01)]

    @property
    def buffered(self) -> int:
        return self.consumer.pump.buffered_bytes


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Callable[[Bench], Coroutine[Any, Any, None]]], None]:
    """Run a scenario on an event loop of its own."""

    def runner(scenario: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            bench = Bench(tmp_path)
            try:
                async with asyncio.timeout(DEADLINE):
                    await scenario(bench)
            finally:
                bench.consumer.pump.consumer.close()

        asyncio.run(main())

    return runner


def test_a_slice_is_handed_out_once_and_frees_its_memory_when_acknowledged(run: Any) -> None:
    """From fetched to acknowledged it counts."""

    async def scenario(bench: Bench) -> None:
        await bench.assign(A, B)
        slice_ = requests(1, 2)
        bench.fetched(slice_)
        (message,) = await bench.taken()
        assert message.value is slice_
        assert await bench.taken() == []
        assert bench.buffered == slice_.size
        assert bench.consumer.ack(message) is True
        assert bench.buffered == 0
        assert bench.consumer.tracker.committable() == {A: 2}
        assert bench.consumer.ack(message) is False
        assert bench.buffered == 0

    run(scenario)


def test_a_revocation_frees_the_memory_of_everything_that_faust_dropped(run: Any) -> None:
    """Slices in the pump, and those that waited in Faust's queues: nobody will ever acknowledge them."""

    async def scenario(bench: Bench) -> None:
        for _ in range(5):
            await bench.assign(A, B)
            bench.fetched(requests(1), requests(2, partition=1), requests(3, first=1))
            assert len(await bench.taken()) == 3
            bench.fetched(requests(4, first=2), requests(5, partition=1, first=1))
            assert bench.buffered > 0
            assert await bench.revoke(A, B) == {}
            assert bench.buffered == 0
            assert await bench.taken() == []

    run(scenario)


def test_an_acknowledgement_after_the_revocation_changes_nothing(run: Any) -> None:
    """The slice is someone else's by now; its memory is not freed twice."""

    async def scenario(bench: Bench) -> None:
        await bench.assign(A)
        bench.fetched(requests(1, 2))
        (message,) = await bench.taken()
        await bench.revoke(A)
        await bench.assign(A)
        longer = requests(1, 2, 3)
        bench.fetched(longer)
        await bench.taken()
        assert bench.consumer.ack(message) is False
        assert bench.consumer.tracker.committable() == {}
        assert bench.buffered == longer.size

    run(scenario)


def test_what_is_finished_is_committed_with_the_revocation(run: Any) -> None:
    """Up to the lowest unfinished slice."""

    async def scenario(bench: Bench) -> None:
        await bench.assign(A, B)
        bench.fetched(requests(1, 2), requests(3, first=2), requests(4, first=3))
        first, _, third = await bench.taken()
        bench.consumer.ack(first)
        bench.consumer.ack(third)
        assert await bench.revoke(A, B) == {A: 2}

    run(scenario)


def test_nothing_is_committed_for_partitions_that_were_lost(run: Any) -> None:
    """They have another owner already."""

    async def scenario(bench: Bench) -> None:
        await bench.assign(A)
        bench.fetched(requests(1))
        (message,) = await bench.taken()
        bench.consumer.ack(message)
        assert await bench.revoke(A, lost=True) == {}
        assert bench.buffered == 0

    run(scenario)


def test_a_revocation_waits_for_the_slices_in_flight(run: Any) -> None:
    """Those that an agent has begun: what it answers then is committed and not scored again."""

    async def scenario(bench: Bench) -> None:
        await bench.assign(A)
        bench.fetched(requests(1, 2))
        (message,) = await bench.taken()
        bench.consumer.track_message(message)
        bench.revoked = bench.consumer.wait_empty
        revoking = asyncio.ensure_future(bench.revoke(A))
        await asyncio.sleep(0)
        assert not revoking.done()
        bench.consumer.ack(message)
        assert await revoking == {A: 2}

    run(scenario)


def test_a_revocation_does_not_wait_for_ever(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stuck slice is left to the next owner; the group waits for as long as this lasts."""
    monkeypatch.setattr(consumer_module, "DRAIN_SECONDS", 0.05)

    async def scenario(bench: Bench) -> None:
        await bench.assign(A)
        bench.fetched(requests(1), requests(2, first=1))
        first, stuck = await bench.taken()
        for message in (first, stuck):
            bench.consumer.track_message(message)
        bench.consumer.ack(first)
        bench.revoked = bench.consumer.wait_empty
        assert await bench.revoke(A) == {A: 1}
        assert bench.buffered == 0

    run(scenario)


def test_slices_of_an_earlier_assignment_are_not_handed_out(run: Any) -> None:
    """Faust may be in the middle of taking them when the partitions go and come again."""

    async def scenario(bench: Bench) -> None:
        await bench.assign(A)
        bench.fetched(requests(1), requests(2, first=1))
        taking = bench.consumer.getmany(0.01)
        await anext(taking)
        await bench.revoke(A)
        await bench.assign(A)
        assert [message async for _, message in taking] == []

    run(scenario)


def test_faust_does_not_drop_what_comes_again(run: Any) -> None:
    """Its loop remembers the last offset and drops lower ones, also where it noted that after the revocation."""

    async def scenario(bench: Bench) -> None:
        await bench.assign(A)
        await bench.revoke(A)
        bench.consumer._read_offset[A] = 5_000
        await bench.assign(A)
        assert await bench.consumer.position(A) is None

    run(scenario)


class Client:
    """librdkafka's consumer, as the pump would call it."""

    def __init__(self, error: int | None = None) -> None:
        self.error = error
        self.commits: list[dict[int, int]] = []

    def commit(self, offsets: Any, asynchronous: bool) -> None:
        assert not asynchronous
        if self.error is not None:
            raise KafkaException(KafkaError(self.error))
        self.commits.append({found.partition: found.offset for found in offsets})


async def finished_slice(bench: Bench) -> None:
    await bench.assign(A)
    bench.fetched(requests(1, 2, 3))
    (message,) = await bench.taken()
    bench.consumer.ack(message)


def play(bench: Bench, client: Client) -> None:
    """What the pump does between two polls."""
    bench.consumer.pump.consumer, real = client, bench.consumer.pump.consumer
    bench.consumer.pump._answer_call()
    bench.consumer.pump.consumer = real


def test_a_commit_is_made_once(run: Any) -> None:
    """The same offsets are not sent again; there is nothing to say until another slice is finished."""

    async def scenario(bench: Bench) -> None:
        client = Client()
        await finished_slice(bench)
        committing = asyncio.ensure_future(bench.consumer.commit())
        await asyncio.sleep(0)
        play(bench, client)
        assert await committing is True
        assert client.commits == [{0: 3}]
        assert await bench.consumer.commit() is False

    run(scenario)


def test_a_commit_that_failed_is_made_again(run: Any) -> None:
    """Nothing is lost by it."""

    async def scenario(bench: Bench) -> None:
        await finished_slice(bench)
        committing = asyncio.ensure_future(bench.consumer.commit())
        await asyncio.sleep(0)
        play(bench, Client(error=KafkaError._TIMED_OUT))
        assert await committing is False
        assert bench.consumer.tracker.committable() == {A: 3}

    run(scenario)


def test_a_commit_that_waited_through_a_rebalance_is_not_made(run: Any) -> None:
    """It would set the offset back that was committed with the revocation, or by the next owner."""

    async def scenario(bench: Bench) -> None:
        client = Client()
        await finished_slice(bench)
        committing = asyncio.ensure_future(bench.consumer.commit())
        await asyncio.sleep(0)
        assert await bench.revoke(A) == {A: 3}
        await bench.assign(A)
        play(bench, client)
        assert await committing is False
        assert client.commits == []

    run(scenario)


def test_nothing_is_committed_while_partitions_are_given_back(run: Any) -> None:
    """The pump is in librdkafka's callback then, and commits by itself at its end."""

    async def scenario(bench: Bench) -> None:
        await finished_slice(bench)
        bench.app.on_rebalance_start()
        assert await bench.consumer.commit() is False

    run(scenario)

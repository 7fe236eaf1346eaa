"""The consumer between Faust and the poller, without a broker: rebalances, late acknowledgements, memory."""

import asyncio
from typing import Any

import pytest
from faust import types

from stream_app.faust_adapter import consumer as consumer_module
from stream_app.faust_adapter.producer import Producer
from tests.support.request_records import requests
from tests.support.scheduler_bench import A, B, Bench


def test_a_batch_is_handed_out_once_and_frees_its_memory_when_acknowledged(run: Any) -> None:
    """From fetched to acknowledged it counts."""

    async def scenario(bench: Bench) -> None:
        await bench.assign(A, B)
        batch = requests(1, 2)
        bench.fetched(batch)
        (message,) = await bench.taken()
        assert message.value is batch
        assert await bench.taken() == []
        assert bench.buffered == batch.size
        assert bench.consumer.ack(message) is True
        assert bench.buffered == 0
        assert bench.consumer.tracker.committable() == {A: 2}
        assert bench.consumer.ack(message) is False
        assert bench.buffered == 0

    run(scenario)


def test_a_revocation_frees_the_memory_of_everything_that_faust_dropped(run: Any) -> None:
    """Batches in the poller, and those that waited in Faust's queues: nothing will ever acknowledge them."""

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
    """The batch has another owner; its memory is not freed twice."""

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
    """Up to the lowest unfinished batch."""

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


def test_a_revocation_waits_for_the_batches_in_flight(run: Any) -> None:
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
    """A stuck batch is left to the next owner; the group waits for as long as this lasts."""
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


def test_batches_of_an_earlier_assignment_are_not_handed_out(run: Any) -> None:
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


def test_faust_gets_partitions_of_its_own_type(run: Any) -> None:
    """It asserts that, for example when it pauses the assignment as the worker stops."""

    async def scenario(bench: Bench) -> None:
        await bench.assign(A, B)
        bench.fetched(requests(1))
        (message,) = await bench.taken()
        bench.consumer.pause_partitions(bench.consumer.assignment())
        assert {type(tp) for tp in (*bench.consumer.assignment(), message.tp)} == {types.TP}
        assert bench.consumer.assignment() == {A, B}

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


def test_batches_are_handed_out_few_at_a_time_and_as_small_as_the_scheduler_wants_them(run: Any) -> None:
    """What Faust has is cut for good; the rest stays in the poller, in order and in whole."""

    async def scenario(bench: Bench) -> None:
        await bench.assign(A, B)
        bench.scheduler.batch_limit = 2
        bench.fetched(requests(*range(5)), requests(*range(20), first=5))
        size = bench.buffered
        handed_out = await bench.taken()
        assert [(found.value.first, found.value.next_offset) for found in handed_out] == [
            (0, 2),
            (2, 4),
            (4, 5),
            (5, 7),
            (7, 9),
            (9, 11),
            (11, 13),
            (13, 15),
        ]
        taking = asyncio.ensure_future(bench.taken(timeout=60))
        await asyncio.sleep(0)
        assert not taking.done()
        bench.scheduler.batch_limit = 100
        bench.consumer.ack(handed_out[0])
        await taking
        (rest,) = await bench.taken()
        assert (rest.value.first, rest.value.next_offset, len(rest.value.records)) == (15, 25, 10)
        assert bench.buffered == size - handed_out[0].value.size
        for message in [*handed_out[1:], rest]:
            bench.consumer.ack(message)
        assert (bench.consumer.tracker.committable(), bench.buffered) == ({A: 25}, 0)

    run(scenario)


def test_a_worker_that_stops_finishes_its_batches_before_it_gives_partitions_back(run: Any) -> None:
    """Another worker left first: the rebalance comes while this one drains, and Faust lets go at once."""

    async def scenario(bench: Bench) -> None:
        await bench.assign(A)
        bench.fetched(requests(1, 2))
        (message,) = await bench.taken()
        bench.consumer.track_message(message)
        bench.stop()
        asyncio.get_running_loop().call_later(0.2, bench.consumer.ack, message)
        assert await bench.revoke(A) == {A: 2}

    run(scenario)


def test_a_worker_that_stops_does_not_wait_for_what_it_has_lost(run: Any) -> None:
    """Somebody else scores it already."""

    async def scenario(bench: Bench) -> None:
        await bench.assign(A)
        bench.fetched(requests(1, 2))
        (message,) = await bench.taken()
        bench.consumer.track_message(message)
        bench.stop()
        assert await bench.revoke(A, lost=True) == {}

    run(scenario)


def test_what_came_one_by_one_does_not_wait_one_by_one(run: Any) -> None:
    """More batches wait than may be handed out: they are joined, in order, up to the limit; none is lost."""

    async def scenario(bench: Bench) -> None:
        await bench.assign(A, B)
        bench.scheduler.batch_limit = 40
        for offset in range(100):
            bench.fetched(requests(offset, first=offset), requests(offset, partition=1, first=offset))
        total, seen = bench.buffered, {A: 0, B: 0}
        while messages := await bench.taken():
            assert len(messages) <= 8
            for message in messages:
                batch = message.value
                assert batch.first == seen[batch.tp]
                assert [record.offset() for record in batch.records] == list(range(batch.first, batch.next_offset))
                assert len(batch.records) <= 40
                seen[batch.tp] = batch.next_offset
                total -= batch.size
                bench.consumer.ack(message)
            # The first time, all but the last are full.
            assert sum(seen.values()) >= 200
        assert (seen, total, bench.buffered) == ({A: 100, B: 100}, 0, 0)
        assert bench.consumer.tracker.committable() == {A: 100, B: 100}

    run(scenario)


@pytest.mark.parametrize("method", ["send", "send_and_wait"])
def test_an_agent_can_not_send_by_itself(method: str) -> None:
    """Its record would get between the outputs of a batch, and nothing would wait for its acknowledgement."""
    producer = object.__new__(Producer)
    with pytest.raises(NotImplementedError, match="BatchScheduler"):
        asyncio.run(getattr(producer, method)("topic", b"key", b"value"))

"""What the consumer commits, and when, without a broker."""

import asyncio
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from machine_learning_engineering.kafka.positions import OffsetReset
from stream_app.serving.batch import TP
from tests.support.request_records import requests
from tests.support.scheduler_bench import DEADLINE, A, B, Bench


class Client:
    """librdkafka's consumer, as the poller would call it."""

    def __init__(self, error: int | None = None, refused: tuple[int, ...] = ()) -> None:
        self.error = error
        self.refused = refused
        self.commits: list[dict[int, int]] = []

    def commit(self, offsets: Any, asynchronous: bool) -> list[Any]:
        assert not asynchronous
        if self.error is not None:
            raise KafkaException(KafkaError(self.error))
        self.commits.append({found.partition: found.offset for found in offsets})
        return [Answer(found, found.partition in self.refused) for found in offsets]


class Answer:
    """What librdkafka says of a partition; it raises only if all were refused."""

    def __init__(self, asked: TopicPartition, refused: bool) -> None:
        self.topic, self.partition = asked.topic, asked.partition
        self.error = KafkaError(KafkaError.REBALANCE_IN_PROGRESS) if refused else None


async def finished_batch(bench: Bench) -> None:
    await bench.assign(A)
    bench.fetched(requests(1, 2, 3))
    (message,) = await bench.taken()
    bench.consumer.ack(message)


def play(bench: Bench, client: Client) -> None:
    """What the poller does between two polls."""
    bench.consumer.poller.consumer, real = client, bench.consumer.poller.consumer
    bench.consumer.poller._run_pending_call()
    bench.consumer.poller.consumer = real


def test_a_commit_is_made_once(run: Any) -> None:
    """The same offsets are not sent again; there is nothing to say until another batch is finished."""

    async def scenario(bench: Bench) -> None:
        client = Client()
        await finished_batch(bench)
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
        await finished_batch(bench)
        committing = asyncio.ensure_future(bench.consumer.commit())
        await asyncio.sleep(0)
        play(bench, Client(error=KafkaError._TIMED_OUT))
        assert await committing is False
        assert bench.consumer.tracker.committable() == {A: 3}

    run(scenario)


def test_a_partition_whose_offset_was_refused_is_committed_again(run: Any) -> None:
    """The others are not: each has an answer of its own."""

    async def scenario(bench: Bench) -> None:
        await bench.assign(A, B)
        bench.fetched(requests(1, 2, 3), requests(4, partition=1))
        for message in await bench.taken():
            bench.consumer.ack(message)
        committing = asyncio.ensure_future(bench.consumer.commit())
        await asyncio.sleep(0)
        play(bench, Client(refused=(B.partition,)))
        assert await committing is True
        assert bench.consumer.tracker.committable() == {B: 1}

    run(scenario)


def test_the_ends_of_partitions_are_committed(run: Any) -> None:
    """Behind the last record may lie a transaction's marker: it would count as a waiting request forever."""

    async def scenario(bench: Bench) -> None:
        await finished_batch(bench)
        positions, client = bench.consumer.poller._positions, Client()
        positions.advance(requests(1, 2, 3))
        positions.follow([End(A, 4)])
        committing = asyncio.ensure_future(bench.consumer.commit())
        await asyncio.sleep(0)
        play(bench, client)
        assert await committing is True
        assert client.commits == [{0: 4}]
        # Records that were fetched and not handed out yet lie before the next end.
        later = requests(5, first=4)
        positions.advance(later)
        positions.follow([End(A, 6)])
        assert await bench.consumer.commit() is False

    run(scenario)


class End:
    """The event that a partition was read to its end."""

    def __init__(self, tp: TP, offset: int) -> None:
        self._tp, self._offset = tp, offset

    def error(self) -> KafkaError:
        return KafkaError(KafkaError._PARTITION_EOF)

    def topic(self) -> str:
        return self._tp.topic

    def partition(self) -> int:
        return self._tp.partition

    def offset(self) -> int:
        return self._offset


def test_a_topic_that_was_made_again_is_tracked_from_its_start(run: Any) -> None:
    """Offsets go down; what the old log's batches took is freed, and the other partition is as it was."""

    async def scenario(bench: Bench) -> None:
        await bench.assign(A, B)
        consumer = bench.consumer
        consumer.loop = asyncio.get_running_loop()
        bench.fetched(requests(*range(9)), requests(5, partition=1))
        old, other = await bench.taken()
        reset = OffsetReset(A.topic, A.partition, position=9, start=0, missing=0, restarted=True)
        resetting = asyncio.ensure_future(asyncio.to_thread(consumer.on_reset, reset))
        # It waits for what is in flight.
        await asyncio.sleep(0)
        assert not resetting.done()
        consumer.ack(old)
        await resetting
        consumer.ack(other)
        assert bench.buffered == 0
        bench.fetched(requests(1, 2))
        (new,) = await bench.taken()
        consumer.ack(new)
        assert consumer.tracker.committable() == {A: 2, B: 1}
        assert bench.value("inflight_worker_partitions_restarted_total", partition="0") == 1

    run(scenario)


def test_requests_that_were_deleted_before_they_were_scored_are_counted(
    run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Retention took them: nobody can answer them any more, and one line says so."""

    async def scenario(bench: Bench) -> None:
        await bench.assign(A)
        reset = OffsetReset(A.topic, A.partition, position=9, start=12, missing=3, restarted=False)
        bench.consumer.on_reset(reset)
        bench.fetched(requests(1, first=12))
        (message,) = await bench.taken()
        bench.consumer.ack(message)
        assert bench.consumer.tracker.committable() == {A: 13}
        assert bench.value("inflight_worker_requests_missing_total", partition="0") == 3

    with caplog.at_level("ERROR"):
        run(scenario)
    (line,) = [one.getMessage() for one in caplog.records if "deleted" in one.getMessage()]
    assert line.endswith(f"3 requests of {A} were deleted before they were scored")


def test_a_commit_that_waited_through_a_rebalance_is_not_made(run: Any) -> None:
    """It would set the offset back that was committed with the revocation, or by the next owner."""

    async def scenario(bench: Bench) -> None:
        client = Client()
        await finished_batch(bench)
        committing = asyncio.ensure_future(bench.consumer.commit())
        await asyncio.sleep(0)
        assert await bench.revoke(A) == {A: 3}
        await bench.assign(A)
        play(bench, client)
        assert await committing is False
        assert client.commits == []

    run(scenario)


def test_nothing_is_committed_while_partitions_are_given_back(run: Any) -> None:
    """The poller is in librdkafka's callback then, and commits by itself at its end."""

    async def scenario(bench: Bench) -> None:
        await finished_batch(bench)
        bench.app.on_rebalance_start()
        assert await bench.consumer.commit() is False

    run(scenario)


def test_a_consumer_thread_that_fails_is_a_bug_and_holds_up_no_stop(run: Any) -> None:
    """Nothing can commit any more; waiting for it would hang the process."""

    async def scenario(bench: Bench) -> None:
        await finished_batch(bench)
        consumer = bench.consumer

        def fail() -> None:
            raise RuntimeError("fatal")

        consumer.poller._poll = fail
        await consumer.on_start()
        assert "consumer thread" in await asyncio.to_thread(bench.scheduler.bugs.get, timeout=DEADLINE)
        await consumer.on_stop()
        assert not consumer.poller.is_alive()
        assert consumer.tracker.committable() == {A: 3}

    run(scenario)


def test_an_assignment_that_fails_is_a_bug(run: Any) -> None:
    """Nothing awaits it: the worker would own partitions that it does not read, and log nothing."""

    async def scenario(bench: Bench) -> None:
        consumer = bench.consumer
        consumer.loop = asyncio.get_running_loop()

        def fail(_: Any) -> None:
            raise RuntimeError("fatal")

        consumer.tracker.assign = fail
        consumer.on_assigned({A})
        reason = await asyncio.to_thread(bench.scheduler.bugs.get, timeout=DEADLINE)
        assert reason == "the assignment failed: RuntimeError"

    run(scenario)

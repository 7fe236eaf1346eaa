"""What the consumer commits, and when, without a broker."""

import asyncio
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from tests.support.request_records import requests
from tests.support.scheduler_bench import DEADLINE, A, Bench


class Client:
    """librdkafka's consumer, as the poller would call it."""

    def __init__(self, error: int | None = None) -> None:
        self.error = error
        self.commits: list[dict[int, int]] = []

    def commit(self, offsets: Any, asynchronous: bool) -> None:
        assert not asynchronous
        if self.error is not None:
            raise KafkaException(KafkaError(self.error))
        self.commits.append({found.partition: found.offset for found in offsets})


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

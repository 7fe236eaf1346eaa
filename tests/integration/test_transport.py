"""The worker on a broker: every request has one outcome, whatever happens to the worker."""

import random
import signal
import threading
import time
from functools import partial
from typing import Any

import msgspec
import psutil
import pytest
from confluent_kafka import Consumer, TopicPartition

from inflight.settings import Settings
from inflight.stack.embedded import EmbeddedNode
from inflight.stack.kafka import KafkaNode
from machine_learning_engineering.events.topics import DEAD_LETTERS, LOGS, REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import consumer_options, end_offsets, read_to_end, topic_name
from tests.support.doses import FULL
from tests.support.programs.streaming import (
    NOTHING_AMISS,
    Program,
    answered,
    committed,
    count_of,
    publish,
    running,
    until,
)

MEBIBYTE = 1024 * 1024
# librdkafka's own queue (`queued.max.messages.kbytes`), which one more fetch may overshoot.
FETCH_QUEUE = (16 + 8) * MEBIBYTE


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """A short session, so that the next worker soon gets what a killed one had."""
    return settings.model_copy(update={"kafka_session_timeout": 6.0})


def some(name: str, count: int, **features: Any) -> dict[str, dict[str, Any]]:
    """`count` requests by id."""
    return {f"{name}-{number}": {"n": number, **features} for number in range(count)}


def all_committed(settings: Settings) -> bool:
    return committed(settings) == {number: high for number, (_, high) in end_offsets(settings, REQUESTS).items()}


def worker(settings: Settings, **overrides: Any) -> Any:
    return running("streaming_worker", settings, **overrides)


def test_each_request_has_one_result_and_one_log_record(settings: Settings) -> None:
    """Without disturbance nothing is lost and nothing repeated, and what was answered is committed by itself."""
    requests = some("r", 5_000)
    publish(settings, requests.items())
    with worker(settings) as program:
        until(lambda: count_of(settings, LOGS) >= len(requests), 300, "all are answered")
        until(lambda: all_committed(settings), 60, "all is committed")
        assert program.terminate() == 0
    assert answered(settings, requests) == NOTHING_AMISS
    assert count_of(settings, DEAD_LETTERS) == 0
    for message in read_to_end(settings, RESULTS):
        result = msgspec.json.decode(message.value())
        assert result["request_id"] == message.key().decode()
        assert result["prediction"] == {"doubled": 2 * requests[result["request_id"]]["n"]}


def test_a_single_request_does_not_wait_for_a_batch(settings: Settings) -> None:
    """At low load a round holds one request, and its answer comes at once."""
    consumer = Consumer(consumer_options(settings, "reader"))
    name = topic_name(settings, RESULTS)
    consumer.assign([TopicPartition(name, number, 0) for number in range(settings.topic_partitions)])
    try:
        with worker(settings) as program:
            publish(settings, some("first", 1).items())
            until(lambda: consumer.poll(0.1), 300, "the worker has joined and answered")
            waited = []
            for number in range(5):
                publish(settings, some(f"single-{number}", 1).items())
                # From its acceptance: to open an idempotent producer takes longer than all the rest.
                started = time.monotonic()
                until(lambda: consumer.poll(0.05), 120, "an answer")
                waited.append(time.monotonic() - started)
            assert program.terminate() == 0
    finally:
        consumer.close()
    # The middle one: a busy machine may hold up any of them.
    assert sorted(waited)[2] < 1.0, waited


@pytest.mark.timeout(2_400)
def test_sigterm_in_the_middle_of_a_batch(settings: Settings) -> None:
    """Four times, or ten: what is in flight is finished and committed, the rest is left to the next worker."""
    rounds, per_round = 10 if FULL else 4, 600
    dice = random.Random(settings.topic_prefix)
    requests: dict[str, dict[str, Any]] = {}
    for number in range(rounds):
        # Each round leaves a part to the next one; the first has more, so that no round can be through with them all.
        batch = some(f"round{number}", per_round if number else per_round + 3_000, sleep=0.002)
        requests.update(batch)
        publish(settings, batch.items())
        before = count_of(settings)
        with worker(settings, worker_max_batch_records=64, worker_max_in_flight_batches=4) as program:
            until(lambda before=before: count_of(settings) > before, 300, "the worker is at work")
            # A random moment of the work, not something that is waited for.
            time.sleep(dice.uniform(0.0, 0.3))
            started = time.monotonic()
            assert program.terminate(30) == 0, program.log
            assert time.monotonic() - started < 30
        results = count_of(settings)
        assert sum(committed(settings).values()) == results, "what was answered is committed"
        assert results < len(requests), "the worker was in the middle of its work"
    with worker(settings) as program:
        until(lambda: count_of(settings, LOGS) >= len(requests), 300, "the rest is answered")
        assert program.terminate() == 0
    assert answered(settings, requests) == NOTHING_AMISS


@pytest.mark.timeout(2_400)
def test_sigterm_to_several_workers_at_once(settings: Settings) -> None:
    """One leaves while the other still works, which answers and commits what it has begun before it gives it back."""
    start = partial(worker, settings, worker_max_batch_records=5)
    requests = some("r", 1_200, sleep=0.2)
    publish(settings, requests.items())
    for _ in range(3):
        # A second for a batch: one worker is through with its own when the other has most of them before it.
        with start(worker_max_in_flight_batches=1) as quick, start(worker_max_in_flight_batches=8) as slow:
            for program in (quick, slow):
                until(lambda program=program: program.completed(), 300, "both are at work")
            until(lambda slow=slow: slow.metrics()["inflight_worker_in_flight_batches"] == 8, 300, "batches wait")
            for program in (quick, slow):
                program.process.send_signal(signal.SIGTERM)
            assert (quick.wait(60), slow.wait(60)) == (0, 0), slow.log
        assert sum(committed(settings).values()) == count_of(settings), "what was answered is committed"
    found = answered(settings, requests)
    assert found["repeated"] == NOTHING_AMISS["repeated"]
    assert found["lost"][RESULTS] > 0, "the workers were in the middle of their work"


def test_a_slow_model_with_a_backlog_moves_on(settings: Settings) -> None:
    """Five requests a second, and many more wait than it answers before it would count as stuck."""
    requests = some("slow", 200, sleep=0.2)
    publish(settings, requests.items())
    start = partial(worker, settings, worker_stall_timeout=8)
    with start() as program:
        # Twelve seconds of work, and the rest still waits.
        until(lambda: sum(committed(settings).values()) >= 60 or program.process.poll() is not None, 300, "commits")
        assert program.terminate() == 0, program.log
    assert 0 < sum(committed(settings).values()) == count_of(settings) < len(requests)
    with start() as program:
        until(lambda: all_committed(settings) or program.process.poll() is not None, 300, "all are answered")
        assert program.terminate() == 0, program.log
    assert answered(settings, requests) == NOTHING_AMISS


def test_workers_join_and_leave(settings: Settings) -> None:
    """A worker that joins or leaves cleanly repeats and loses nothing, while requests keep coming."""
    requests: dict[str, dict[str, Any]] = {}
    enough = threading.Event()

    def feed() -> None:
        while not enough.is_set():
            batch = some(f"batch{len(requests)}", 100, sleep=0.001)
            requests.update(batch)
            publish(settings, batch.items())

    def wait_for_work(program: Program) -> None:
        before = program.completed()
        until(lambda: program.completed() > before, 300, "the worker has a share of the work")

    start = partial(worker, settings, worker_max_batch_records=50)
    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        with start() as first:
            wait_for_work(first)
            with start() as second:
                wait_for_work(second)
                wait_for_work(first)
                assert first.terminate() == 0
                wait_for_work(second)
                with start() as third:
                    wait_for_work(third)
                    assert second.terminate() == 0
                    wait_for_work(third)
                    enough.set()
                    feeder.join()
                    until(lambda: count_of(settings, LOGS) >= len(requests), 300, "all are answered")
                    assert third.terminate() == 0
    finally:
        enough.set()
        feeder.join()
    assert answered(settings, requests) == NOTHING_AMISS
    assert all_committed(settings)


def test_memory_is_bounded_however_much_waits(settings: Settings) -> None:
    """300 MB wait for a slow model: the worker takes what its buffer holds and leaves the rest to the broker."""
    limit = 32 * MEBIBYTE
    requests = some("large", 3_000, sleep=0.004, padding="x" * 100_000)
    publish(settings, requests.items())
    resident, buffered, in_flight = [], [], []
    with worker(settings, worker_buffer_bytes=limit, worker_max_in_flight_batches=3) as program:
        process = psutil.Process(program.process.pid)

        def all_answered() -> bool:
            metrics = program.metrics()
            resident.append(process.memory_info().rss)
            buffered.append(metrics.get("inflight_worker_buffer_bytes", 0.0))
            in_flight.append(metrics.get("inflight_worker_in_flight_batches", 0.0))
            return program.completed() >= len(requests)

        until(all_answered, 600, "all are answered")
        assert program.terminate() == 0
    figures = {
        "resident": max(resident) / MEBIBYTE,
        "buffered": max(buffered) / MEBIBYTE,
        "in_flight": max(in_flight),
    }
    # Fetching pauses at the limit, so what one more poll takes from librdkafka's own queue comes on top.
    assert 0 < figures["buffered"] <= (limit + FETCH_QUEUE) / MEBIBYTE, figures
    assert 0 < figures["in_flight"] <= 3, figures
    assert figures["resident"] < 450, figures
    assert answered(settings, requests) == NOTHING_AMISS


def test_a_stuck_model_ends_the_process(settings: Settings) -> None:
    """A supervisor restarts a process that ends, not one that hangs; nothing of the batch is committed."""
    publish(settings, some("stuck", 1, sleep=600).items())
    with worker(settings, worker_stall_timeout=2) as program:
        assert program.wait(300) == 70
        assert "is stuck at offset 0" in program.log
    assert sum(committed(settings).values()) == 0
    assert count_of(settings) == 0


def test_sigterm_is_obeyed_even_by_a_stuck_model(settings: Settings) -> None:
    """A worker waits for its batches in flight within a bound, and leaves the stuck one to the next worker."""
    publish(settings, some("stuck", 1, sleep=600).items())
    with worker(settings) as program:
        until(lambda: program.metrics().get("inflight_worker_in_flight_batches"), 300, "the model is at work")
        assert program.terminate() == 70
        assert "1 batches were unfinished" in program.log
    assert sum(committed(settings).values()) == 0


def test_a_consumer_thread_that_fails_ends_the_process(settings: Settings) -> None:
    """Nobody could commit any more what the worker answers: the next one scores it."""
    publish(settings, some("fatal", 1, fatal=True).items())
    with worker(settings) as program:
        assert program.wait(300) == 70, program.log
        assert "the consumer thread failed" in program.log
    assert sum(committed(settings).values()) == 0


def test_a_bug_ends_the_process(settings: Settings) -> None:
    """What no request may cause is no request's fault: the process ends, and nothing is acknowledged or skipped."""
    requests = some("bug", 20, bug=True)
    publish(settings, requests.items())
    with worker(settings) as program:
        assert program.wait(300) == 70
        assert "a bug that no request may cause" in program.log
    assert sum(committed(settings).values()) == 0
    assert count_of(settings) == count_of(settings, LOGS) == count_of(settings, DEAD_LETTERS) == 0


def test_the_worker_waits_for_a_broker_that_is_away(settings: Settings, broker: KafkaNode | EmbeddedNode) -> None:
    """For longer than a session there is no broker; the same process goes on afterwards and nothing is lost."""
    before = some("before", 2_000, sleep=0.002)
    after = some("after", 500)
    publish(settings, before.items())
    with worker(settings, worker_max_batch_records=100) as program:
        until(lambda: count_of(settings) > 0, 300, "the worker is at work")
        broker.stop()
        try:
            # There is nothing to wait for: the point is that the process survives this long.
            time.sleep(10)
            assert program.process.poll() is None, program.log
        finally:
            broker.start()
        publish(settings, after.items())
        wanted = before | after
        until(lambda: answered(settings, wanted)["lost"] == {RESULTS: 0, LOGS: 0}, 300, "all are answered")
        until(lambda: all_committed(settings), 300, "all is committed")
        assert program.terminate() == 0

"""What plain Faust loses on a broker, and that our transport does not.

Each scenario runs against both. That plain Faust still loses is asserted, too: when it no longer does, these tests say
so, and the reasons for a transport of our own in docs/decisions/0002-faust-in-batches.md have to be looked at again.
"""

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Producer

from inflight.settings import Settings
from machine_learning_engineering.events.topics import DEAD_LETTERS, REQUESTS
from machine_learning_engineering.kafka.client import producer_options, read_to_end, topic_name
from tests.support.programs.streaming import committed, count_of, ids_of, lost, publish, running, until

SECONDS = 300.0
GOOD = {f"good-{number}": {"n": number} for number in range(40)}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Batches of one record, so that a batch is to ours what an event is to plain Faust."""
    return settings.model_copy(update={"kafka_session_timeout": 6.0, "worker_max_batch_records": 1})


def plain(settings: Settings, style: str) -> Any:
    return running("plain_faust", settings, style)


def ours(settings: Settings, *arguments: str) -> Any:
    return running("streaming_worker", settings, *arguments)


def everything_is_answered_by_the_next_worker(settings: Settings, ids: set[str]) -> None:
    with ours(settings, "healthy") as program:
        until(lambda: ids <= set(ids_of(settings)), SECONDS, "all are answered")
        assert program.terminate() == 0
    assert lost(settings) == set()


# 1. The agent's body raises.


def a_bug(settings: Settings) -> set[str]:
    requests = GOOD | {"bug": {"n": 1, "bug": True}}
    publish(settings, requests.items())
    return set(requests)


@pytest.mark.parametrize("style", ["take", "iterate"])
def test_plain_faust_loses_what_its_agent_raised_for(settings: Settings, style: str) -> None:
    """`take` acknowledges the whole batch, plain iteration the event."""
    a_bug(settings)
    with plain(settings, style) as program:
        until(lambda: "bug" in lost(settings), SECONDS, "the failed request is committed")
        assert "the body of the agent raised" in program.log


def test_ours_keeps_what_its_worker_raised_for(settings: Settings) -> None:
    """It ends, with nothing of the round acknowledged, and a worker without the bug answers all."""
    ids = a_bug(settings)
    with ours(settings) as program:
        assert program.wait(SECONDS) == 70
    assert lost(settings) == set()
    everything_is_answered_by_the_next_worker(settings, ids)


# 3. Later requests of a partition are finished before an earlier one.


def unfinished_work(settings: Settings) -> set[str]:
    # The first of its partition; some of the good ones come behind it there.
    requests = {"held": {"n": 0, "hold": True}} | GOOD
    publish(settings, requests.items())
    return set(requests)


def partition_of_held(settings: Settings) -> int:
    partitions = {found.key(): found.partition() for found in read_to_end(settings, REQUESTS)}
    assert list(partitions.values()).count(partitions[b"held"]) > 1
    return partitions[b"held"]


def test_plain_faust_commits_past_unfinished_work(settings: Settings) -> None:
    """As long as nothing of the partition was committed, nothing guards it; a crash then loses the request."""
    unfinished_work(settings)
    with plain(settings, "ack-by-hand") as program:
        until(lambda: lost(settings) == {"held"}, SECONDS, "the unfinished request is committed")
        program.process.kill()


def test_ours_does_not_commit_past_unfinished_work(settings: Settings) -> None:
    """However much is finished behind it."""
    ids = unfinished_work(settings)
    held = partition_of_held(settings)
    with ours(settings) as program:
        until(lambda: set(GOOD) <= set(ids_of(settings)), SECONDS, "the others are answered")
        others = {number for number in range(settings.topic_partitions) if number != held}
        until(lambda: all(committed(settings)[number] for number in others), SECONDS, "the others are committed")
        assert committed(settings)[held] == 0
        assert lost(settings) == set()
        program.process.kill()
    everything_is_answered_by_the_next_worker(settings, ids)


# 4. A record can't be decoded.


def publish_broken(settings: Settings) -> None:
    producer = Producer(producer_options(settings))
    for partition in range(settings.topic_partitions):
        producer.produce(topic_name(settings, REQUESTS), b"not JSON", f"broken-{partition}", partition=partition)
    assert producer.flush(30) == 0


def a_broken_record(settings: Settings, after: Callable[[], None]) -> None:
    """Good requests, a broken record in each partition, and good ones behind it, while the program runs."""
    publish(settings, GOOD.items())
    until(lambda: set(GOOD) <= set(ids_of(settings)), SECONDS, "the first are answered")
    publish_broken(settings)
    after()
    publish(settings, LATER.items())


LATER = {f"later-{number}": {"n": number} for number in range(40)}


def test_plain_faust_falls_silent_at_a_broken_record(settings: Settings) -> None:
    """The agent ends without an error; the process lives, and what comes later is not answered."""
    with plain(settings, "take-json") as program:
        broken = {f"broken-{partition}" for partition in range(settings.topic_partitions)}

        def some_are_skipped() -> None:
            until(lambda: broken & lost(settings), SECONDS, "a broken record is committed, with no trace of it")

        a_broken_record(settings, some_are_skipped)
        with pytest.raises(AssertionError, match="answered"):
            until(lambda: set(LATER) & set(ids_of(settings)), 5, "answered")
        assert program.process.poll() is None


def test_ours_sets_a_broken_record_aside(settings: Settings) -> None:
    """It is a dead letter, with its bytes, and what comes later is answered."""
    with ours(settings) as program:

        def all_are_set_aside() -> None:
            until(lambda: count_of(settings, DEAD_LETTERS) == settings.topic_partitions, SECONDS, "dead letters")

        a_broken_record(settings, all_are_set_aside)
        until(lambda: set(LATER) <= set(ids_of(settings)), SECONDS, "the later ones are answered")
        assert program.terminate() == 0
    assert {name for name in lost(settings) if not name.startswith("broken")} == set()


# 9. SIGTERM in the middle of a batch.


def a_long_batch(settings: Settings) -> set[str]:
    requests = {f"slow-{number}": {"n": number, "sleep": 0.2} for number in range(40)}
    publish(settings, requests.items())
    return set(requests)


def test_plain_faust_loses_a_batch_at_sigterm(settings: Settings) -> None:
    """With `stream_wait_empty` off: the batch is cancelled, acknowledged and committed."""
    a_long_batch(settings)
    with plain(settings, "take-without-wait") as program:
        until(lambda: "begun" in program.log, SECONDS, "a batch is begun")
        program.terminate()
    assert lost(settings)


def test_ours_finishes_its_batch_at_sigterm(settings: Settings) -> None:
    """And leaves the rest to the next worker."""
    ids = a_long_batch(settings)
    with ours(settings) as program:
        until(lambda: count_of(settings), SECONDS, "the worker is at work")
        assert program.terminate() == 0
    assert lost(settings) == set()
    assert sum(committed(settings).values()) == count_of(settings) < len(ids)
    everything_is_answered_by_the_next_worker(settings, ids)


def test_plain_faust_waits_for_a_stuck_batch_without_end(settings: Settings) -> None:
    """With `stream_wait_empty` on: SIGTERM is not obeyed for as long as the batch lasts."""
    publish(settings, [("stuck", {"n": 1, "sleep": 600})])
    with plain(settings, "take") as program:
        until(lambda: "begun stuck" in program.log, SECONDS, "the batch is begun")
        with pytest.raises(AssertionError, match="still running"):
            program.terminate(8)
    assert lost(settings) == set()

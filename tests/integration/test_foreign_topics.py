"""A worker on topics and behind producers that are not ours: unreadable batches, odd times, retention."""

import time
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from inflight.settings import Settings
from machine_learning_engineering.dead_letters.letter import read_origin
from machine_learning_engineering.events.headers import headers_of
from machine_learning_engineering.events.topics import DEAD_LETTERS, MEBIBYTE, REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import client_options, producer_options, read_to_end, topic_name
from stream_app.serving.batch import MAX_KEY_BYTES
from tests.support.programs.streaming import committed, count_of, publish, running, until
from tests.support.topics import delete_topic

STALL_SECONDS = 4.0


def value(request_id: str) -> bytes:
    return b'{"request_id":"%s","model":"doubling","features":{"n":1}}' % request_id.encode()


def send(settings: Settings, request_id: str, partition: int = 0, options: Any = None, **record: Any) -> None:
    producer = Producer({**producer_options(settings), **(options or {})})
    given = {"value": value(request_id), "key": request_id} | record
    errors: list[Any] = []
    producer.produce(
        topic_name(settings, REQUESTS), partition=partition, on_delivery=lambda error, _: errors.append(error), **given
    )
    producer.flush(120)
    assert errors == [None], request_id


def reasons(settings: Settings) -> list[str]:
    return sorted(read_origin(headers_of(letter)).reason for letter in read_to_end(settings, DEAD_LETTERS))


def recreate(settings: Settings, **config: str) -> None:
    """The topic of requests as somebody else makes it."""
    admin, name = AdminClient(client_options(settings)), topic_name(settings, REQUESTS)
    delete_topic(settings, name)

    def made() -> bool:
        try:
            admin.create_topics([NewTopic(name, settings.topic_partitions, 1, config=config)])[name].result()
        except Exception:
            return False
        return True

    until(made, 60, "the topic is made again")

    def ready() -> bool:
        found = admin.list_topics(name, timeout=20).topics[name]
        return found.error is None and all(one.leader >= 0 for one in found.partitions.values())

    until(ready, 60, "the topic has leaders")


def test_an_unreadable_batch_stops_neither_its_partition_nor_the_worker(settings: Settings) -> None:
    """One small compressed batch, in a topic that keeps what is sent; the requests before and behind it are answered.

    In a topic of ours the broker unpacks it, and refuses it.
    """
    recreate(settings, **{"compression.type": "producer"})
    options = {"compression.type": "zstd", "message.max.bytes": 1_000_000_000}
    with running("streaming_worker", settings, "healthy", worker_stall_timeout=STALL_SECONDS) as program:
        send(settings, "before")
        send(settings, "bomb", options=options, value=bytes(150_000_000))
        send(settings, "behind")
        until(lambda: count_of(settings) == 2, 300, "both are answered")
        until(lambda: committed(settings)[0] == 3, 60, "all is committed")
        assert program.metrics()['inflight_worker_unreadable_batches_total{partition="0"}'] == 1
        assert program.terminate() == 0
    assert reasons(settings) == ["unreadable_batch"]
    (letter,) = read_to_end(settings, DEAD_LETTERS)
    assert letter.value() is None


def test_records_with_any_timestamp_have_one_outcome(settings: Settings) -> None:
    """A topic with the producers' clocks, one of which counts in microseconds."""
    config = {"message.timestamp.type": "CreateTime", "message.timestamp.after.max.ms": str(2**63 - 1)}
    recreate(settings, **config)
    with running("streaming_worker", settings, worker_stall_timeout=STALL_SECONDS) as program:
        send(settings, "odd", timestamp=1_700_000_000_000_000)
        send(settings, "odder", timestamp=253_402_300_800_000)
        send(settings, "good")
        until(lambda: count_of(settings) == 1, 300, "the good one is answered")
        until(lambda: committed(settings)[0] == 3, 60, "all is committed")
        assert program.terminate() == 0
    assert reasons(settings) == ["invalid_timestamp"] * 2


def test_heavy_keys_and_headers_are_dead_letters(settings: Settings) -> None:
    """They would take many times their size in memory, and are no request of ours."""
    # Names of their own: of headers with one name, the embedded broker keeps the last.
    with running("streaming_worker", settings) as program:
        send(settings, "many", headers=[(str(number), b"") for number in range(20_000)])
        send(settings, "large", headers=[("a", b"x" * 100_000)])
        send(settings, "key", key=b"k" * MEBIBYTE)
        send(settings, "good", headers=[(str(number), b"x" * 100) for number in range(100)])
        until(lambda: count_of(settings) == 1, 300, "the good one is answered")
        until(lambda: committed(settings)[0] == 4, 60, "all is committed")
        assert program.terminate() == 0
    assert reasons(settings) == ["too_large"] * 3
    kept = {len(letter.key() or b"") for letter in read_to_end(settings, DEAD_LETTERS)}
    assert kept == {len("many"), len("large"), MAX_KEY_BYTES}


def test_requests_that_retention_took_are_counted(settings: Settings) -> None:
    """The worker goes on with the first that is left."""
    topic = topic_name(settings, REQUESTS)
    with running("streaming_worker", settings) as program:
        send(settings, "first")
        until(lambda: committed(settings)[0] == 1, 300, "the first one is committed")
        assert program.terminate() == 0
    for number in range(5):
        send(settings, f"late-{number}")
    admin = AdminClient(client_options(settings))
    for done in admin.delete_records([TopicPartition(topic, 0, 4)]).values():
        done.result()
    with running("streaming_worker", settings, worker_stall_timeout=STALL_SECONDS) as program:
        until(lambda: count_of(settings) == 3, 300, "the first one and what is left are answered")
        until(lambda: program.metrics()['inflight_worker_requests_missing_total{partition="0"}'] == 3, 60, "counted")
        assert program.log.count("3 requests of") == 1
        assert program.terminate() == 0


def test_a_topic_that_is_made_again_under_a_worker_is_read_from_its_start(settings: Settings) -> None:
    """Its offsets are lower than those that were read."""
    with running("streaming_worker", settings, worker_stall_timeout=60.0) as program:
        publish(settings, ((f"old-{number}", {"n": number}) for number in range(200)))
        until(lambda: count_of(settings) == 200, 300, "the old ones are answered")
        recreate(settings, **{"message.timestamp.type": "LogAppendTime"})
        publish(settings, ((f"new-{number}", {"n": number}) for number in range(20)))
        until(lambda: count_of(settings) == 220, 120, "the new ones are answered")
        assert program.process.poll() is None
        assert program.terminate() == 0
    answered = {message.key() for message in read_to_end(settings, RESULTS)}
    assert {f"new-{number}".encode() for number in range(20)} <= answered


@pytest.mark.timeout(600)
def test_new_partitions_are_answered_within_seconds(settings: Settings) -> None:
    """By a worker that runs."""
    topic = topic_name(settings, REQUESTS)
    with running("streaming_worker", settings) as program:
        send(settings, "first")
        until(lambda: count_of(settings) == 1, 300, "the worker is at work")
        admin = AdminClient(client_options(settings))
        admin.create_partitions([NewPartitions(topic, settings.topic_partitions + 2)])[topic].result()
        started = time.monotonic()
        send(settings, "new", partition=settings.topic_partitions + 1)
        until(lambda: count_of(settings) == 2, 60, "the request on a new partition is answered")
        assert time.monotonic() - started < 30
        assert program.terminate() == 0

"""The key of a request is its producer's own, on every kind of broker and with both clients, through a worker."""

import json
import threading

import pytest
from confluent_kafka import Message

from inflight.settings import Settings
from machine_learning_engineering.dead_letters.letter import read_origin
from machine_learning_engineering.dead_letters.writer import DeadLetterWriter, RejectedRecord
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.headers import headers_of
from machine_learning_engineering.events.topics import DEAD_LETTERS, LOGS, REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import read_to_end, topic_name
from monitoring.audit.readers import run_audit
from stream_app.serving.batch import MAX_KEY_BYTES
from tests.support.broker_clients import Send
from tests.support.programs.streaming import count_of, running, until

KEYS = [None, b"", b"customer-1", b"customer-2", b"\x00\xff\xfe", b"k" * 1_024]
ROUNDS = 8
BAD = 3
"""Of each key's rounds, this one is no request; the one before it has invalid features."""


def value(number: int, key_number: int) -> bytes:
    if number == BAD:
        return b"no request"
    n = "text" if number == BAD - 1 else number
    request = {"request_id": f"{key_number}-{number}", "model": "doubling", "features": {"n": n}}
    return json.dumps(request).encode()


def position(record: Message) -> tuple[int, int]:
    return record.partition() or 0, record.offset() or 0


@pytest.mark.usefixtures("each_broker")
def test_outputs_carry_the_key_and_stay_in_the_partition_and_order_of_their_requests(
    settings: Settings, send: Send
) -> None:
    """No key, an empty one, customers, bytes that are no text, and a kilobyte."""
    for number in range(ROUNDS):
        for key_number, key in enumerate(KEYS):
            send(topic_name(settings, REQUESTS), value(number, key_number), key)
    answered, unreadable = (ROUNDS - 1) * len(KEYS), len(KEYS)
    with running("streaming_worker", settings) as program:
        until(
            lambda: count_of(settings) == answered and count_of(settings, DEAD_LETTERS) == unreadable,
            300,
            "each has its outcome",
        )
        assert program.terminate() == 0

    sent = list(read_to_end(settings, REQUESTS))
    by_id = {f"{key_number}-{number}": None for number in range(ROUNDS) if number != BAD for key_number in range(6)}
    where = {json.loads(one.value())["request_id"]: one for one in sent if one.value() != b"no request"}
    assert where.keys() == by_id.keys()
    for topic, decode in ((RESULTS, events.decode_result), (LOGS, events.decode_log)):
        outputs = list(read_to_end(settings, topic))
        ids = [decode(output.value() or b"").request_id for output in outputs]  # type: ignore[attr-defined]
        assert sorted(ids) == sorted(where)
        for request_id, output in zip(ids, outputs, strict=True):
            request = where[request_id]
            assert (output.key(), output.partition()) == (request.key(), request.partition())
        for partition in range(settings.topic_partitions):
            offsets = [
                where[i].offset() for i, output in zip(ids, outputs, strict=True) if output.partition() == partition
            ]
            assert offsets == sorted(offsets)
    unread = {position(one): one for one in sent if one.value() == b"no request"}
    letters = list(read_to_end(settings, DEAD_LETTERS))
    assert len(letters) == len(unread) == unreadable
    for letter in letters:
        origin = read_origin(headers_of(letter))
        request = unread[origin.partition, origin.offset]
        assert origin.reason == "not_json"
        assert (letter.key(), letter.partition()) == (request.key(), request.partition())
    # The empty key is no null key, and the audit counts by what is in the values.
    assert {one.key() for one in sent} == set(KEYS)
    audit = run_audit(settings, index=False)
    assert (audit.accepted, audit.completed, audit.failed, audit.dead_letters) == (48, 36, 6, 6)
    assert audit.passed
    assert audit.orphans == audit.conflicts == audit.repeats == 0


@pytest.mark.usefixtures("each_broker")
def test_requests_with_one_id_and_several_keys_are_one_request_published_again(settings: Settings, send: Send) -> None:
    """In any partition: the audit knows a repetition from a conflict by the content."""
    for key in KEYS:
        send(topic_name(settings, REQUESTS), value(1, 0), key)
    with running("streaming_worker", settings) as program:
        until(lambda: count_of(settings) == len(KEYS), 300, "each is answered")
        assert program.terminate() == 0
    assert {one.key() for one in read_to_end(settings, RESULTS)} == set(KEYS)
    audit = run_audit(settings, index=False)
    assert audit.passed
    assert (audit.accepted, audit.completed, audit.conflicts, audit.orphans) == (len(KEYS), len(KEYS), 0, 0)


@pytest.mark.usefixtures("each_broker")
def test_a_key_above_its_limit_is_a_dead_letter_with_a_part_of_it(settings: Settings, send: Send) -> None:
    """And the request behind it is answered."""
    key = bytes(range(256)) * 1_000
    send(topic_name(settings, REQUESTS), value(1, 0), key)
    send(topic_name(settings, REQUESTS), value(1, 1), None)
    with running("streaming_worker", settings) as program:
        until(lambda: count_of(settings) == count_of(settings, DEAD_LETTERS) == 1, 300, "each has its outcome")
        assert program.terminate() == 0
    (letter,) = read_to_end(settings, DEAD_LETTERS)
    assert (letter.key(), letter.value()) == (key[:MAX_KEY_BYTES], value(1, 0))
    origin = read_origin(headers_of(letter))
    assert (origin.reason, origin.truncated) == ("too_large", len(key) + len(value(1, 0)))


@pytest.mark.usefixtures("each_broker")
def test_dead_letters_of_other_processes_stay_in_their_partition_too(settings: Settings, send: Send) -> None:
    """A log record that the index refuses, whatever its key."""
    for number in range(12):
        send(topic_name(settings, LOGS), b"%d" % number, KEYS[number % len(KEYS)])
    logs = list(read_to_end(settings, LOGS))
    rejected = [RejectedRecord(record, "index_rejected", "for the test") for record in logs]
    assert DeadLetterWriter(settings).write(rejected, threading.Event())
    letters = {letter.value(): letter for letter in read_to_end(settings, DEAD_LETTERS)}
    assert len(letters) == 12
    for record in logs:
        letter = letters[record.value()]
        assert (letter.key(), letter.partition()) == (record.key(), record.partition())

"""What the console sees of the stream: from every kind of broker, as from the memory of the pages' tests."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Producer

from inflight.adapters.console import BrokerLags
from inflight.settings import Settings
from machine_learning_engineering.dead_letters.letter import DeadLetterOrigin, dead_letter_headers
from machine_learning_engineering.dead_letters.reader import Address
from machine_learning_engineering.declaration.reading import DECLARATION_FILE
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.topics import DEAD_LETTERS, LABELS, LOGS, MEASUREMENTS, MODEL_EVENTS, REQUESTS
from machine_learning_engineering.kafka.client import producer_options, read_to_end, topic_name
from monitoring.runtime.groups import READS
from producers.gateway.console import letters, reader
from producers.gateway.console.memory import Memory
from producers.gateway.console.sources import LagUnavailable, NoLags
from producers.gateway.console.watch import Watch
from tests.support.console import FilledWatch, log
from tests.support.gateway import put_model
from tests.support.waiting import until

SECONDS = 90.0
LABEL = b'{"request_id":"r1","model":"diamonds","label":552,"observed_at":"2026-11-30T10:00:00Z"}'
NOISE = (b"", b"{", b"[]", b"\xff\xff", b'{"type":"nothing"}')


@pytest.fixture
def settings(each_broker: Any, settings: Settings) -> Settings:
    return settings


@pytest.fixture
def producer(settings: Settings) -> Producer:
    return Producer(producer_options(settings))


@pytest.fixture
def watch(settings: Settings) -> Iterator[Watch]:
    found = Watch(settings, NoLags())
    yield found
    found.close()


def reading() -> bool:
    """Whether a thread of a watch runs."""
    return any(one.name == "inflight-gateway-console" for one in threading.enumerate())


def send(settings: Settings, producer: Producer, topic: str, value: bytes | None, **options: Any) -> None:
    producer.produce(topic_name(settings, topic), value, b"k", **options)
    assert producer.flush(SECONDS) == 0


def send_logs(settings: Settings, producer: Producer, start: int, count: int) -> None:
    now = datetime.now(UTC)
    for number in range(start, start + count):
        event = log(
            f"r{number}", "diamonds", now + timedelta(milliseconds=number), failed="yes" if number % 4 == 0 else ""
        )
        producer.produce(topic_name(settings, LOGS), events.encode(event), str(number).encode())
    assert producer.flush(SECONDS) == 0


def ids(memory: Memory) -> set[str]:
    return {one.event.request_id for one in memory.predictions(100_000)[0]}


def test_it_keeps_what_is_on_the_topics(settings: Settings, producer: Producer, watch: Watch) -> None:
    """From before its start and from then on, as the memory that pages are tested with has it."""
    source = FilledWatch()
    origin = DeadLetterOrigin("invalid_json", "not JSON", "decode", topic_name(settings, REQUESTS), 0, 7, None, "bad")
    send_logs(settings, producer, 0, 100)
    send(settings, producer, LABELS, LABEL)
    send(settings, producer, DEAD_LETTERS, b"{", headers=dead_letter_headers(origin, [("a", b"b")]))
    for topic in (LOGS, LABELS, MEASUREMENTS, MODEL_EVENTS, DEAD_LETTERS):
        for value in NOISE:
            send(settings, producer, topic, value)
    for topic in (LOGS, LABELS):
        for record in read_to_end(settings, topic):
            reader.note(source.memory, topic, record.value(), record.timestamp()[1] / 1_000)
    for record in read_to_end(settings, DEAD_LETTERS):
        reader.note_letter(source.memory, record, record.timestamp()[1] / 1_000)
    assert not watch.active
    until(lambda: watch.view().complete, SECONDS, "everything from before is read")
    seen, given = watch.view().memory, source.memory
    assert ids(seen) == ids(given) == {f"r{number}" for number in range(100)}
    assert seen.counted == given.counted == {"predictions": 100, "labels": 1, "dead_letters": 1}
    assert seen.letters() == given.letters()
    assert seen.letters()[0].origin == origin
    assert seen.label_of("r1") == given.label_of("r1")
    now = time.time()
    assert seen.totals(now - 300, now + 5) == given.totals(now - 300, now + 5)
    assert watch.view().problem == ""
    assert watch.view().since < now - 3_000
    send_logs(settings, producer, 100, 50)
    until(lambda: len(ids(watch.view().memory)) == 150, SECONDS, "what comes later is read too")


def test_it_ends_when_nobody_looks(settings: Settings, producer: Producer) -> None:
    """And begins anew, with what is there then."""
    now = [0.0]
    watch = Watch(settings, NoLags(), lambda: now[0], idle_seconds=10.0)
    try:
        send_logs(settings, producer, 0, 5)
        until(lambda: watch.view().complete, SECONDS, "it is read")
        memory = watch.view().memory
        now[0] = 9.0
        assert watch.active
        now[0] = 20.0
        until(lambda: not watch.active and not reading(), SECONDS, "nobody looks")
        send_logs(settings, producer, 5, 5)
        until(lambda: watch.view().complete and len(ids(watch.view().memory)) == 10, SECONDS, "it begins anew")
        assert watch.view().memory is not memory
        assert len(ids(memory)) == 5
    finally:
        watch.close()
    assert not watch.active
    assert watch.view().problem


def test_too_many_from_before_are_a_gap_and_no_zero(
    settings: Settings, producer: Producer, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(reader._LAST, LOGS, 40)
    send_logs(settings, producer, 0, 400)
    began = time.time()
    until(lambda: watch.view().complete, SECONDS, "it is read")
    view = watch.view()
    assert 0 < len(ids(view.memory)) <= 40 + settings.topic_partitions
    assert view.since > began - 300
    columns = view.memory.columns(time.time() + 10, 3_600, 60, view.since)
    assert columns["completed"][0] is None


def test_a_broker_that_comes_back(each_broker: Any, settings: Settings, producer: Producer, watch: Watch) -> None:
    send_logs(settings, producer, 0, 5)
    until(lambda: len(ids(watch.view().memory)) == 5, SECONDS, "it is read")
    each_broker.stop()
    try:
        until(lambda: "does not respond" in watch.view().problem, SECONDS, "it says so")
        assert len(ids(watch.view().memory)) == 5
    finally:
        each_broker.start()
    until(lambda: watch.view().problem == "", SECONDS, "it goes on")


def test_letters_by_address_and_their_replay(settings: Settings, producer: Producer) -> None:
    topic = topic_name(settings, REQUESTS)
    for number in range(3):
        origin = DeadLetterOrigin("invalid_json", "not JSON", "decode", topic, 0, number)
        headers = dead_letter_headers(origin, [("a", b"b")])
        producer.produce(topic_name(settings, DEAD_LETTERS), b"{%d" % number, b"k", 0, headers=headers)
    assert producer.flush(SECONDS) == 0
    found = letters.find(settings, Address(0, 1))
    assert found is not None
    assert letters.shown(found) == {
        "key": "k", "value": "{1", "bytes": 2, "shown_bytes": 2, "headers": [["a", "b"]],
    }  # fmt: skip
    assert letters.find(settings, Address(0, 99)) is None
    # A partition that the topic does not have is no broker that is away.
    assert letters.find(settings, Address(999, 0)) is None
    asked = [Address(0, 1), Address(0, 2), Address(0, 99)]
    done = letters.replay_letters(settings, asked, again=False)
    assert [one.outcome for one in done] == ["accepted", "accepted", "gone"]
    records = list(read_to_end(settings, REQUESTS))
    assert sorted((one.value(), one.headers()) for one in records) == [(b"{1", [("a", b"b")]), (b"{2", [("a", b"b")])]
    done = letters.replay_letters(settings, [Address(0, 0), Address(0, 1)], again=False)
    assert [one.outcome for one in done] == ["accepted", "already_replayed"]
    assert len(list(read_to_end(settings, REQUESTS))) == 3


def test_a_letter_of_an_existing_topic_is_scored_again_and_nothing_is_written_there(
    settings: Settings, producer: Producer
) -> None:
    declared = b"""[model]
name = "line"
answer = { doubled = "predict" }
[source]
topic = "of-others"
[features]
n = { type = "int" }
"""
    put_model(settings.home / "registry", files={DECLARATION_FILE: declared})
    for topic in ("of-others", "of-nobody-here"):
        headers = dead_letter_headers(DeadLetterOrigin("not_json", "not JSON", "decode", topic, 2, 17), [])
        producer.produce(topic_name(settings, DEAD_LETTERS), b"{", b"k", 0, headers=headers)
    assert producer.flush(SECONDS) == 0
    done = letters.replay_letters(settings, [Address(0, 0), Address(0, 1)], again=False)
    assert [one.outcome for one in done] == ["accepted", "unknown_topic"]
    [record] = read_to_end(settings, REQUESTS)
    assert (record.value(), record.headers()) == (b"{", [("inflight_source", b"of-others/2/17")])


def test_lag(each_broker: Any, settings: Settings, producer: Producer) -> None:
    """Of every group, also of those that never read; while the broker is away it says so, and comes back."""
    send_logs(settings, producer, 0, 8)
    lags = BrokerLags(settings)
    try:
        found = {(one.group, one.topic): one for one in lags.read()}
        assert set(found) == {(group, topic) for group, topics in READS.items() for topic in topics}
        indexer = found["inflight-indexer", LOGS]
        assert (indexer.records, indexer.active) == (8, False)
        assert 0 <= (indexer.waiting_seconds or 0) < SECONDS
        assert found["inflight-worker", REQUESTS].waiting_seconds is None
        lags.close()
        assert len(lags.read()) == len(found)
        each_broker.stop()
        try:
            with pytest.raises(LagUnavailable, match="can't be read"):
                lags.read()
        finally:
            each_broker.start()
        until(lambda: bool(readable(lags)), SECONDS, "it is read again")
    finally:
        lags.close()


def readable(lags: BrokerLags) -> list[Any]:
    try:
        return list(lags.read())
    except LagUnavailable:
        return []

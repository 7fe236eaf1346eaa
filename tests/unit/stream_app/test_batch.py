"""Splitting fetched records into batches."""

from collections import defaultdict
from typing import Any

import pytest
from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.events.unreadable import UnreadableRecord
from stream_app.faust_adapter.app import BatchSchema
from stream_app.serving.batch import (
    MAX_KEY_BYTES,
    RECORD_OVERHEAD_BYTES,
    TP,
    PartitionBatch,
    extend_batches,
    split_into_batches,
)
from stream_app.serving.outcomes import OutputTopics
from stream_app.serving.scorer import Scorer
from tests.support.request_records import Doubling
from tests.support.request_records import record as request_record

TPS = st.builds(TP, st.sampled_from(["requests", "others"]), st.integers(0, 2))


def record(tp: TP, offset: int, size: int) -> Message:
    return Message(topic=tp.topic, partition=tp.partition, offset=offset, key=b"", value=b"x" * size)


@st.composite
def fetched(draw: st.DrawFn) -> list[Message]:
    """Records of several partitions mixed, each partition's in offset order and with holes."""
    position: dict[TP, int] = defaultdict(int)
    messages = []
    for tp, hole, size in draw(st.lists(st.tuples(TPS, st.integers(0, 3), st.integers(0, 600)), max_size=60)):
        offset = position[tp] + hole
        position[tp] = offset + 1
        messages.append(record(tp, offset, size))
    return messages


@given(fetched(), st.integers(1, 3_000))
def test_batches_are_ordered_contiguous_bounded_and_complete(messages: list[Message], limit: int) -> None:
    """Whatever was fetched: each record is in exactly one batch, and a partition's batches follow one another."""
    batches = split_into_batches(messages, limit)
    by_partition: dict[TP, list[Message]] = defaultdict(list)
    reached: dict[TP, int] = defaultdict(int)
    for batch in batches:
        assert batch.records
        assert {TP(found.topic(), found.partition()) for found in batch.records} == {batch.tp}
        assert batch.first == batch.records[0].offset() >= reached[batch.tp]
        assert batch.next_offset == batch.records[-1].offset() + 1
        assert batch.size == sum(len(found) + RECORD_OVERHEAD_BYTES for found in batch.records)
        assert batch.size <= limit or len(batch.records) == 1
        reached[batch.tp] = batch.next_offset
        by_partition[batch.tp] += batch.records
    expected: dict[TP, list[Message]] = defaultdict(list)
    for message in messages:
        expected[TP(message.topic(), message.partition())].append(message)
    assert by_partition == expected


def test_records_are_split_only_where_it_has_to_be() -> None:
    """As few batches as the limit allows."""
    tp = TP("requests", 0)
    messages = [record(tp, offset, 100) for offset in range(10)]
    batches = split_into_batches(messages, 3 * (100 + RECORD_OVERHEAD_BYTES))
    assert [len(batch.records) for batch in batches] == [3, 3, 3, 1]


@given(st.integers(2, 50), st.data())
def test_a_split_batch_is_the_same_in_two_parts(count: int, data: st.DataObject) -> None:
    """Also over offsets that the log no longer holds."""
    tp = TP("requests", 0)
    (whole,) = split_into_batches([record(tp, 3 * number, number) for number in range(count)], 1_000_000)
    records = data.draw(st.integers(1, count - 1))
    first, rest = whole.split(records)
    assert (first.tp, first.first, rest.tp, rest.next_offset) == (tp, whole.first, tp, whole.next_offset)
    assert (len(first.records), first.records + rest.records) == (records, whole.records)
    assert first.next_offset == first.records[-1].offset() + 1 <= rest.first == rest.records[0].offset()
    assert first.size + rest.size == whole.size
    assert min(first.size, rest.size) > 0


def test_faust_hands_a_batch_on_as_it_is() -> None:
    """No decoding before our code: Faust acknowledges what it can't decode."""
    batch = split_into_batches([record(TP("requests", 0), 5, 1)], 1_000)[0]

    class Received:
        value = batch

    schema = BatchSchema()
    assert schema.loads_value(None, Received) is batch
    assert schema.loads_key(None, Received) is None


def test_keys_and_headers_count_as_memory() -> None:
    """They are kept as long as their record."""
    plain, keyed = request_record(b"v"), request_record(b"v", b"k" * 1_000, offset=1)
    (small,), (large,) = split_into_batches([plain], 10_000), split_into_batches([keyed], 10_000)
    assert large.size - small.size >= 1_000
    (with_headers,) = split_into_batches([request_record(b"v", headers=[("name", b"x" * 500)] * 3)], 100_000)
    assert with_headers.size - small.size >= 3 * 504


@pytest.mark.parametrize(
    ("what", "large"),
    [
        ("the key has 16,385 bytes; at most 16,384", {"key": b"k" * 16_385}),
        ("the record has 101 headers; at most 100", {"headers": [("", b"")] * 101}),
        ("the headers have 65,537 bytes; at most 65,536", {"headers": [("n", b"x" * 65_536)]}),
    ],
)
def test_what_is_too_large_is_not_kept(what: str, large: dict[str, Any]) -> None:
    """The record becomes a dead letter in its place; its neighbours stay what they are."""
    found = [
        request_record(b"before"),
        request_record(b"v" * 100, offset=1, **large),
        request_record(b"after", offset=2),
    ]
    (batch,) = split_into_batches(found, 1_000_000)
    assert (batch.first, batch.next_offset) == (0, 3)
    before, short, after = batch.records
    assert (before, after) == (found[0], found[2])
    assert isinstance(short, UnreadableRecord)
    assert short.reason == "too_large"
    assert short.explanation.startswith(what)
    assert (short.offset(), short.value(), short.timestamp()) == (1, b"v" * 100, found[1].timestamp())
    assert len(short.key() or b"") <= 16_384
    assert sum(len(name) + len(value or b"") for name, value in short.headers()) <= 16 * 1024


KEYS = {
    "the request id": b"r1",
    "none": None,
    "empty": b"",
    "a customer": b"customer-7",
    "binary": b"\x00\xff\xfe",
    "1 kB": b"k" * 1_024,
    "as large as the limit": b"k" * MAX_KEY_BYTES,
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_the_key_belongs_to_the_producer(key: bytes | None) -> None:
    """The request id is in the value; results, log records and dead letters have the key of their request."""
    value = b'{"request_id": "r1", "model": "doubling", "features": {"n": 1}}'
    (batch,) = split_into_batches([request_record(value, key)], 1_000_000)
    topics = OutputTopics("results", "logs", "dead-letters")
    (scored,) = Scorer({"doubling": Doubling()}, topics, max_request_bytes=1_000_000).score([batch])
    assert scored.completed == 1
    assert [record[0] for topic in ("results", "logs") for record in scored.outputs[topic]] == [key, key]


def test_what_is_as_large_as_allowed_is_kept() -> None:
    """Neither the key nor the headers are touched."""
    found = request_record(b"v", b"k" * MAX_KEY_BYTES, headers=[("n", b"x" * 655)] * 99 + [("n", b"")])
    (batch,) = split_into_batches([found], 1_000_000)
    assert batch.records == [found]


def test_batches_grow_as_if_all_records_had_come_at_once() -> None:
    """The poller reads a few at a time."""
    found = [
        request_record(b"v" * size, offset=offset, partition=offset % 3) for offset, size in enumerate(range(200, 260))
    ]
    batches: list[PartitionBatch] = []
    for start in range(0, len(found), 7):
        extend_batches(batches, found[start : start + 7], 3_000)
    for partition in range(3):
        mine = [batch for batch in batches if batch.tp.partition == partition]
        assert [one.offset() for batch in mine for one in batch.records] == list(range(partition, 60, 3))
    assert all(batch.size <= 3_000 for batch in batches)
    assert len(batches) <= 2 * len(split_into_batches(found, 3_000))

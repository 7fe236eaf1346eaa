"""Batches: what goes to the index, what is set aside, what may be committed."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from machine_learning_engineering.events.schemas import Error
from monitoring.indexer.batch import Batch
from monitoring.indexer.projections import log_entries

Records = Callable[..., Any]


def test_the_bulk_body_has_two_lines_for_each_record(record: Records) -> None:
    """An action that never overwrites, and the document."""
    entries = [*log_entries(record(0, request_id='a"\\\n')), *log_entries(record(1, request_id="b"))]
    first, document, second, _ = (json.loads(line) for entry in entries for line in entry.lines.splitlines())
    assert first == {"create": {"_index": "inference-logs-2026.03.01", "_id": 'a"\\\n'}}
    assert document["inflight"]["request_id"] == 'a"\\\n'
    assert second["create"]["_id"] == "b"


def test_a_batch_knows_the_next_offset_of_each_partition(record: Records) -> None:
    """Also past records that can't be indexed."""
    batch = Batch()
    batch.add(record(4, request_id="a"))
    batch.add(record(5, value=b"not json"))
    assert batch.next_offsets == {("prediction-logs", 0): 6}
    assert batch.records == 2


@pytest.mark.parametrize(
    "value",
    [b"", b"{}", b"\xff\xfe", b"[]", b'{"type":"prediction.completed.v1"}', b"[" * 100_000, b'{"a":' * 100_000],
)
def test_what_is_no_log_is_set_aside(record: Records, value: bytes) -> None:
    """Nothing that a topic can hold stops the batch."""
    batch = Batch()
    batch.add(record(0, value=value))
    batch.add(record(1))
    assert [letter.reason for letter in batch.dead_letters] == ["undecodable_log"]
    assert len(batch.entries) == 1


@pytest.mark.parametrize(
    ("old", "new", "explanation"),
    [
        (b"2026-03-01T12:00:00Z", b"0001-01-01T00:00:00+10:00", "date value out of range"),
        (b'"total_seconds":0.0035', b'"total_seconds":1e308', "cannot convert float infinity to integer"),
        (b'"completed"', b'"CANARY"', "Invalid enum value - at `$.outcome`"),
        (b"prediction.logged.v1", b"CANARY's - at `$.x", "Invalid value - at `$.type`"),
    ],
)
def test_numbers_beyond_all_bounds_and_unknown_words_are_set_aside(
    record: Records, old: bytes, new: bytes, explanation: str
) -> None:
    """And what is none of the allowed words is not quoted."""
    value = record(0).value()
    assert old in value
    batch = Batch()
    batch.add(record(0, value=value.replace(old, new)))
    assert [letter.explanation for letter in batch.dead_letters] == [f"not a prediction log: {explanation}"]


def test_a_document_is_sent_once_at_a_time(record: Records) -> None:
    """Further records about it wait, in order, until it is settled."""
    batch = Batch()
    for offset, request_id in enumerate(["a", "b", "a", "a"]):
        batch.add(record(offset, request_id=request_id))
    assert [entry.record.offset() for entry in batch.entries] == [0, 1]
    assert [entry.record.offset() for entry in batch.deferred] == [2, 3]
    assert batch.after == []


def test_a_document_that_an_earlier_batch_sends_is_waited_for(record: Records) -> None:
    """Two bulk requests in flight may be carried out in either order."""
    first, second, third = Batch(), Batch(), Batch()
    first.add(record(0, request_id="a"))
    second.add(record(1, request_id="b"), [first])
    third.add(record(2, request_id="a"), [first, second])
    third.add(record(3, request_id="a"), [first, second])
    assert (second.deferred, second.after) == ([], [])
    assert (third.entries, third.after) == ([], [first])
    assert [entry.record.offset() for entry in third.deferred] == [2, 3]


def test_the_same_id_on_another_day_is_another_document(record: Records) -> None:
    """Indices are daily, and an `_id` is unique in its index."""
    batch = Batch()
    batch.add(record(0))
    batch.add(record(1, accepted_at=datetime(2026, 3, 2, tzinfo=UTC)))
    assert len(batch.entries) == 2


def test_the_bytes_of_a_batch_are_those_of_its_body(record: Records) -> None:
    """The bound on a bulk request is a bound on what is sent."""
    batch = Batch()
    for number in range(5):
        batch.add(
            record(
                number,
                request_id=f"r{number}",
                error=Error("invalid_features", "no"),
                features=b'"' + b"x" * number + b'"',
            )
        )
    assert batch.bytes == len(b"\n".join([*(entry.lines for entry in batch.entries), b""]))

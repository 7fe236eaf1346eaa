"""Batches: what goes to the index, what is set aside, what may be committed."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from machine_learning_engineering.events import Error
from monitoring.batches import Batch, lines, to_entry
from monitoring.dead_letters import CONFLICT, UNDECODABLE

Records = Callable[..., Any]


def test_the_bulk_body_has_two_lines_for_each_record(record: Records) -> None:
    """An action that never overwrites, and the document."""
    body = lines([to_entry(record(0, request_id='a"\\\n')), to_entry(record(1, request_id="b"))])
    assert body.endswith(b"\n")
    first, document, second, _ = (json.loads(line) for line in body.splitlines())
    assert first == {"create": {"_index": "inference-logs-2026.03.01", "_id": 'a"\\\n'}}
    assert document["inference"]["request_id"] == 'a"\\\n'
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
    assert [letter.reason for letter in batch.letters] == [UNDECODABLE]
    assert len(batch.entries) == 1


def test_an_id_again_in_the_same_batch_is_a_replay_or_a_conflict(record: Records) -> None:
    """The first one wins, and nothing is lost."""
    batch = Batch()
    batch.add(record(0, features=b'{"a":1,"b":2}'))
    batch.add(record(1, features=b'{"b": 2, "a": 1}'))
    batch.add(record(2, features=b'{"a":9}'))
    assert (len(batch.entries), batch.replayed) == (1, 1)
    assert [(letter.reason, letter.record.offset(), letter.request_id) for letter in batch.letters] == [
        (CONFLICT, 2, "r1")
    ]


def test_an_id_that_is_under_way_is_not_sent_again(record: Records) -> None:
    """Two bulk requests in flight may be carried out in either order."""
    first, second = Batch(), Batch()
    first.add(record(0, features=b'{"a":1}'))
    second.add(record(1, features=b'{"a":2}'), [first.fingerprints])
    second.add(record(2, features=b'{"a":1}'), [first.fingerprints])
    assert second.entries == []
    assert (second.replayed, [letter.reason for letter in second.letters]) == (1, [CONFLICT])


def test_the_bytes_of_a_batch_are_those_of_its_body(record: Records) -> None:
    """The bound on a bulk request is a bound on what is sent."""
    batch = Batch()
    for number in range(5):
        batch.add(
            record(
                number,
                request_id=f"r{number}",
                error=Error("invalid-features", "no"),
                features=b'"' + b"x" * number + b'"',
            )
        )
    assert batch.bytes == len(lines(batch.entries))

"""Records built from features, requests and raw bytes."""

from datetime import UTC, datetime

import msgspec
import pytest
from msgspec import Raw

from machine_learning_engineering.events import schemas as events
from producers.request_builder import Record, RequestBuilder, new_traceparent
from producers.shift import parse_shift
from producers.sources import Request


def test_features_become_a_request_that_the_kernel_decodes() -> None:
    """A mapping or raw JSON under a fresh id, which is also the key, with the time it was made."""
    composer = RequestBuilder("diamonds", id_prefix="run")
    for number, features in enumerate([{"carat": 0.3}, Raw(b'{"carat":0.3}'), Request({"carat": 0.3})]):
        request_id, record = composer.build(features, number)
        event = events.decode_request(record.value)
        assert record.key == request_id.encode() == f"run-{number:08d}".encode()
        assert (event.request_id, event.model, events.parse(event.features)) == (request_id, "diamonds", {"carat": 0.3})
        assert abs((datetime.now(UTC) - event.requested_at).total_seconds()) < 300


def test_a_whole_request_keeps_what_it_says() -> None:
    """Its own id, model and time come first."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    request_id, record = RequestBuilder("other").build(Request(Raw(b"{}"), "mine", "r-1", at), 0)
    event = events.decode_request(record.value)
    assert (request_id, record.key, event.model, event.requested_at) == ("r-1", b"r-1", "mine", at)


def test_bytes_and_records_are_published_as_they_are() -> None:
    """Bad input can be sent on purpose, with a key or without."""
    composer = RequestBuilder(None, id_prefix="bad")
    assert composer.build(b"not json", 0) == ("bad-00000000", Record(b"not json", b"bad-00000000"))
    assert composer.build(Record(b"x"), 1) == ("bad-00000001", Record(b"x", None))
    assert composer.build(Record(None, b"k", [("h", b"1")]), 2) == ("k", Record(None, b"k", [("h", b"1")]))


def test_the_same_prefix_gives_the_same_ids_and_no_prefix_new_ones() -> None:
    """A repeated run can be recognised; two runs otherwise never share an id."""
    same = [RequestBuilder("m", id_prefix="p").build({}, 0)[0] for _ in range(2)]
    fresh = {RequestBuilder("m").build({}, 0)[0] for _ in range(1_000)}
    assert same == ["p-00000000"] * 2
    assert len(fresh) == 1_000


def test_a_request_for_no_model_is_refused() -> None:
    """The message names the option."""
    with pytest.raises(ValueError, match="--model"):
        RequestBuilder(None).build({"carat": 1}, 0)


def test_shifts_apply_in_order_and_leave_the_source_alone() -> None:
    """Twice, then plus one; the dataset's own row is not changed."""
    row = {"x": 3.0}
    composer = RequestBuilder("m", [parse_shift("x=2"), parse_shift("x=+1")])
    for features in (row, Raw(b'{"x": 3.0}')):
        _, record = composer.build(features, 0)
        assert msgspec.json.decode(record.value)["features"] == {"x": 7.0}
    assert row == {"x": 3.0}


def test_a_traceparent_is_well_formed_and_new_each_time() -> None:
    """W3C trace context, version 00, never all zeros."""
    found = {new_traceparent() for _ in range(100)}
    assert len(found) == 100
    for text in found:
        version, trace, span, flags = text.split("-")
        assert (version, len(trace), len(span), flags) == ("00", 32, 16, "01")
        assert int(trace, 16)
        assert int(span, 16)

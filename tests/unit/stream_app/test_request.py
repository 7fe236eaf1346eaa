"""Decoding a record: every kind of invalid input gets a reason and a message that names the field."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from machine_learning_engineering.events.schemas import PredictionLogged, PredictionRequested, decode_log, encode
from monitoring.documents.log import to_document
from stream_app.serving.request import InvalidRequest, read_request

LIMIT = 1_000_000
REASONS = {"empty_value", "too_large", "not_utf8", "not_json", "invalid_request"}
VALID: dict[str, Any] = {"request_id": "r1", "model": "diamonds", "features": {"carat": 0.3}}


def value(**changes: Any) -> bytes:
    """A valid request with some fields changed; None leaves the field out."""
    merged = {**VALID, **changes}
    return json.dumps({name: found for name, found in merged.items() if found is not None}).encode()


def raw_features(text: bytes) -> bytes:
    return b'{"request_id": "r1", "model": "diamonds", "features": ' + text + b"}"


def read(content: bytes | None, limit: int = LIMIT) -> PredictionRequested:
    return read_request(content, limit)


GOOD = {
    "plain": value(),
    "with its type": value(type="prediction.requested.v1"),
    "with a time": value(requested_at="2026-01-01T12:00:00+02:00"),
    "text beyond ASCII": value(features={"name": "Ünïcødé ✓"}),
    "text beyond ASCII, not escaped": json.dumps({**VALID, "features": {"n": "✓"}}, ensure_ascii=False).encode(),
    "features that only their model can judge": value(features=[1, "two", None]),
    "a huge number, which is the model's to judge": raw_features(b'{"carat": ' + b"9" * 400 + b"}"),
    "white space around it": b" \n\t" + value() + b"\r\n ",
    "a field twice, of which the last counts": b'{"request_id": "r0", ' + value()[1:],
}


@pytest.mark.parametrize("content", GOOD.values(), ids=GOOD)
def test_a_request_is_read(content: bytes) -> None:
    """What any producer in any language may write."""
    request = read(content)
    assert (request.request_id, request.model) == ("r1", "diamonds")


def test_features_stay_as_they_came() -> None:
    """They are in the log, byte for byte."""
    features = b'{"carat":   0.30, "carat": 1e0, "x": "\\u00e9"}'
    assert bytes(read(raw_features(features)).features) == features


BAD: dict[str, tuple[bytes | None, str, str]] = {
    "no value": (None, "empty_value", "no value"),
    "empty value": (b"", "empty_value", "no value"),
    "white space only": (b"   ", "not_json", "not JSON"),
    "not JSON": (b"carat=0.3", "not_json", "not JSON"),
    "cut off": (value()[:-1], "not_json", "not JSON"),
    "trailing bytes": (value() + b"x", "not_json", "not JSON"),
    "two documents": (value() + value(), "not_json", "not JSON"),
    "single quotes": (str(VALID).encode(), "not_json", "not JSON"),
    "byte order mark": (b"\xef\xbb\xbf" + value(), "not_json", "not JSON"),
    "zero bytes": (b"\0" * 20, "not_json", "not JSON"),
    "UTF-16": (value().decode().encode("utf-16"), "not_utf8", "not UTF-8"),
    "UTF-16 without mark": (value().decode().encode("utf-16-le"), "not_json", "not JSON"),
    "latin-1 in the features": (raw_features('{"cut": "schön"}'.encode("latin-1")), "not_utf8", "byte 0xf6 at"),
    "latin-1 in the model": ('{"request_id": "r1", "model": "schön"}'.encode("latin-1"), "not_utf8", "byte 0xf6"),
    "encoded lone surrogate": (raw_features(b'"\xed\xa0\x80"'), "not_utf8", "byte 0xed"),
    "a list": (b"[]", "invalid_request", "request_id"),
    "a number": (b"1", "invalid_request", "request_id"),
    "null": (b"null", "invalid_request", "request_id"),
    "a text": (b'"r1"', "invalid_request", "request_id"),
    "an empty object": (b"{}", "invalid_request", "request_id"),
    "no request_id": (value(request_id=None), "invalid_request", "request_id"),
    "no model": (value(model=None), "invalid_request", "model"),
    "no features": (value(features=None), "invalid_request", "features"),
    "unknown field": (value(colour="red"), "invalid_request", "colour"),
    "field in other case": (value(Model="diamonds"), "invalid_request", "Model"),
    "request_id is a number": (value(request_id=1), "invalid_request", "request_id: expected `str`"),
    "request_id is empty": (value(request_id=""), "invalid_request", "request_id"),
    "request_id is too long": (value(request_id="r" * 257), "invalid_request", "request_id"),
    "model is null": (b'{"request_id": "r1", "model": null, "features": {}}', "invalid_request", "model"),
    "model is a list": (value(model=["diamonds"]), "invalid_request", "model"),
    "model is empty": (value(model=""), "invalid_request", "model"),
    "time without offset": (value(requested_at="2026-01-01T12:00:00"), "invalid_request", "requested_at"),
    "time in words": (value(requested_at="yesterday"), "invalid_request", "requested_at"),
    "time as a number": (value(requested_at=True), "invalid_request", "requested_at"),
    "time that no calendar has": (value(requested_at="2026-02-30T12:00:00Z"), "invalid_request", "requested_at"),
    "another event": (value(type="prediction.completed.v1"), "invalid_request", "type"),
    "NaN": (raw_features(b'{"carat": NaN}'), "not_json", "carat"),
    "infinity": (raw_features(b'{"carat": Infinity}'), "not_json", "carat"),
    "minus infinity": (raw_features(b'{"sizes": [1, -Infinity]}'), "not_json", "sizes[1]"),
    "NaN outside of the features": (b'{"request_id": NaN}', "not_json", "request_id"),
    "nested too deeply": (raw_features(b"[" * 100_000 + b"]" * 100_000), "invalid_request", "features: nested"),
    "nested objects": (raw_features(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "invalid_request", "features: nested"),
    "nested and not closed": (raw_features(b"[" * 100_000), "invalid_request", "features: nested"),
    "nothing but brackets": (b"[" * 100_000, "invalid_request", "request_id"),
    "too large": (value(padding="x" * LIMIT), "too_large", "at most 1,000,000"),
}


@pytest.mark.parametrize(("content", "reason", "words"), BAD.values(), ids=BAD)
def test_what_is_no_request_is_refused(content: bytes | None, reason: str, words: str) -> None:
    """With a stable reason for programs, and words for people that name the field and are short."""
    with pytest.raises(InvalidRequest) as caught:
        read(content)
    assert caught.value.reason == reason
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"9" * 5_000, b"1e-999"])
def test_a_number_beyond_all_bounds_is_left_to_the_model(number: bytes) -> None:
    """It is JSON, so the request can be understood: its model answers with a failed result that names the feature."""
    assert read(raw_features(b'{"carat": ' + number + b"}")).model == "diamonds"


def test_a_request_may_be_as_large_as_the_limit() -> None:
    """One byte more is too large."""
    content = value()
    assert read(content, limit=len(content)).request_id == "r1"
    with pytest.raises(InvalidRequest, match=f"has {len(content)} bytes; at most {len(content) - 1}"):
        read(content, limit=len(content) - 1)


def test_what_can_be_read_of_a_bad_request_is_kept() -> None:
    """Dead letters are filtered by model and found by id."""
    with pytest.raises(InvalidRequest) as caught:
        read(value(features=None))
    assert (caught.value.model, caught.value.request_id) == ("diamonds", "r1")


@pytest.mark.parametrize("surrogate", [b"\\ud800", b"\\udfff\\ud800"])
def test_a_lone_surrogate_in_an_envelope_field_is_refused(surrogate: bytes) -> None:
    """It can't be written as UTF-8 again, so no answer could carry it."""
    with pytest.raises(InvalidRequest):
        read(b'{"request_id": "' + surrogate + b'", "model": "m", "features": {}}')


def read_or_refused(content: bytes) -> PredictionRequested | InvalidRequest:
    """Any other exception fails the test."""
    try:
        return read(content, limit=10_000)
    except InvalidRequest as refused:
        return refused


def assert_read_or_refused(content: bytes) -> None:
    found = read_or_refused(content)
    if isinstance(found, InvalidRequest):
        assert found.reason in REASONS
        assert str(found).encode()
    else:
        assert_indexable(found)


def assert_indexable(request: PredictionRequested) -> None:
    """Its features go into the log as they are: the log record has to be readable, and Elasticsearch to accept it."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    log = PredictionLogged(
        request.request_id, request.model, "failed", request.features, now, now, now, 0.0, 0.0, 0.0, 1, 0, 0
    )
    read_again = decode_log(encode(log))
    assert bytes(read_again.features) == bytes(request.features)
    # A number beyond a double is JSON. Such features are indexed as text, and the document holds no such number.
    document = msgspec.json.decode(to_document(read_again))
    assert document["inflight"]["model"]["name"] == request.model


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_in_words(content: bytes) -> None:
    """Nothing but InvalidRequest, whatever is published."""
    assert_read_or_refused(content)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner), max_leaves=8)
FIELDS = st.sampled_from(["request_id", "model", "features", "requested_at", "type", "other"])


@given(st.dictionaries(FIELDS, JSON), st.booleans())
def test_any_json_is_read_or_refused(changes: dict[str, Any], ascii_only: bool) -> None:
    """Requests with fields of any type and value, NaN and unpaired surrogates included."""
    content = json.dumps({**VALID, **changes}, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    assert_read_or_refused(content)


@pytest.mark.parametrize("number", [b"1e3163", b"-1e999", b"9" * 5_000, b"[1, 1e309]"])
def test_a_number_beyond_a_double_is_logged_and_indexed(number: bytes) -> None:
    """Decoders disagree about it: Python's reads an infinity, msgspec refuses."""
    assert_indexable(read(raw_features(number)))
    assert_indexable(read(raw_features(b'{"carat": ' + number + b"}")))


@given(st.data())
def test_a_request_with_some_bytes_changed_is_read_or_refused(data: st.DataObject) -> None:
    """Inserted, deleted and replaced at any place."""
    content = bytearray(value(requested_at="2026-01-01T12:00:00Z"))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(start, min(len(content), start + 5)))
        content[start:end] = data.draw(st.binary(max_size=5) | st.sampled_from([b"NaN", b"1e999", b"[", b'"', b"\\u"]))
    assert_read_or_refused(bytes(content))


@example(b"9" * 5_000)
@given(st.text("0123456789+-.eE", max_size=30).map(str.encode))
def test_any_number_is_read_or_refused(number: bytes) -> None:
    """Python refuses to read whole numbers of thousands of digits, with an error of its own."""
    found = read_or_refused(raw_features(b'{"carat": ' + number + b"}"))
    assert isinstance(found, PredictionRequested) or found.reason == "not_json"

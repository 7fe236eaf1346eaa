"""Headers of requests: which are carried, and that none of them can prevent an outcome."""

from typing import Any

import pytest

from machine_learning_engineering.dead_letters.letter import MAX_LETTER_BYTES, read_origin, without_origin
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.headers import MAX_CARRIED_BYTES, headers_of
from machine_learning_engineering.events.topics import MEBIBYTE
from stream_app.serving.scorer import MAX_PREDICTION_BYTES
from tests.support.request_records import Answer, Doubling, batch_of, record, request, requests
from tests.support.scorer_outputs import TRACE, logs, only, outputs_of, results, scorer


def test_trace_context_and_cloudevents_reach_every_output() -> None:
    """With the answer's own type and id, and everything else of the producer's attributes."""
    headers = [
        ("traceparent", TRACE),
        ("tracestate", b"vendor=1"),
        ("ce_specversion", b"1.0"),
        ("ce_id", b"r1"),
        ("ce_source", b"/shop"),
        ("ce_type", b"prediction.requested.v1"),
        ("ce_tenant", b"7"),
        ("authorization", b"secret"),
    ]
    good = record(request("r1"), b"r1", headers=headers)
    failing = record(request("r2", model="unknown"), b"r2", headers=headers, offset=1)
    scored = only(scorer(Doubling()).score([batch_of(good, failing)]))
    assert len(outputs_of(scored)) == 4
    for output in outputs_of(scored):
        assert output.headers is not None
        found = dict(output.headers)
        assert len(found) == len(output.headers), "no header twice"
        decode: Any = events.decode_log if output.topic == "logs" else events.decode_result
        event = decode(output.value)
        tag = event.__struct_config__.tag
        assert found == {
            "traceparent": TRACE,
            "tracestate": b"vendor=1",
            "ce_specversion": b"1.0",
            "ce_source": b"/shop",
            "ce_tenant": b"7",
            "ce_type": tag.encode(),
            "ce_id": f"{event.request_id}/{tag}".encode(),
        }
    assert {log.traceparent for log in logs(scored)} == {TRACE.decode()}


def test_a_producer_without_headers_gets_none() -> None:
    """Headers are added only where the request has some."""
    scored = only(scorer(Doubling()).score([requests(1)]))
    assert all(not output.headers for output in outputs_of(scored))


def test_a_header_that_is_not_utf8_is_carried() -> None:
    """Arbitrary bytes in `traceparent` are carried unchanged, and logged as well as possible."""
    scored = only(
        scorer(Doubling()).score([batch_of(record(request("r1"), b"r1", headers=[("traceparent", b"\xff")]))])
    )
    assert scored.completed == 1
    assert all(output.headers == [("traceparent", b"\xff")] for output in outputs_of(scored))


@pytest.mark.parametrize(
    ("name", "size", "carried"),
    [
        ("ce_note", MAX_CARRIED_BYTES // 2, True),
        ("ce_note", MAX_CARRIED_BYTES, False),
        ("traceparent", 2 * MEBIBYTE, False),
        ("tracestate", 2 * MEBIBYTE, False),
    ],
)
def test_headers_that_are_large_stay_behind(name: str, size: int, carried: bool) -> None:
    """An answer that is too large for the broker would end this worker, and every one after it."""
    headers = [(name, b"\x01" * size), ("ce_source", b"/shop")]
    scored = only(scorer(Doubling()).score([batch_of(record(request("r1"), b"r1", headers=headers))]))
    assert scored.completed == 1
    for output in outputs_of(scored):
        assert output.headers == (headers if carried else headers[1:])
        assert len(output.value) < MAX_CARRIED_BYTES


def test_a_dead_letter_that_is_too_large_is_cut_and_says_so() -> None:
    """A broker limits what it has compressed: the record unpacks to more than can be sent."""
    headers = [("traceparent", TRACE), ("note", b"y" * MAX_LETTER_BYTES)]
    whole = b"x" * (12 * MEBIBYTE)
    asked = batch_of(record(whole, b"k" * (2 * MEBIBYTE), headers=headers))
    (dead_letter,) = outputs_of(only(scorer(Doubling()).score([asked])))
    assert (dead_letter.key, dead_letter.value) == (b"k" * MEBIBYTE, whole[:MEBIBYTE])
    assert dead_letter.headers is not None
    assert without_origin(dead_letter.headers) == headers[:1]
    size = len(whole) + 2 * MEBIBYTE + MAX_LETTER_BYTES
    origin = read_origin(dead_letter.headers)
    assert origin.reason == "too_large"
    assert size <= int(origin.message.split()[2]) <= size + 1_000
    assert origin.message.startswith("truncated from ")


def test_a_dead_letter_that_fits_is_whole() -> None:
    """To the last byte."""
    whole = b"x" * (MAX_LETTER_BYTES - 1_000)
    (dead_letter,) = outputs_of(only(scorer(Doubling()).score([batch_of(record(whole, b"k"))])))
    assert dead_letter.value == whole
    assert dead_letter.headers is not None
    assert "cut" not in read_origin(dead_letter.headers).message


class Unreadable:
    """A record as confluent-kafka 2.16 has it where the name of a header is not UTF-8."""

    def __init__(self, error: Exception) -> None:
        self._found: Any = error

    def headers(self) -> Any:
        if isinstance(self._found, Exception):
            raise self._found
        return self._found

    def set_headers(self, found: Any) -> None:
        self._found = found

    def topic(self) -> str:
        return "prediction-requests"

    def partition(self) -> int:
        return 0

    offset = partition


@pytest.mark.parametrize("error", [SystemError("exception set"), UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "no")])
def test_headers_that_cannot_be_read_count_as_none(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Also when they are asked for again, where the client would crash. Proven on a broker in test_oversize_records."""
    unreadable = Unreadable(error)
    assert [list(headers_of(unreadable)) for _ in range(2)] == [[], []]
    assert caplog.text.count("not UTF-8") == 1


def test_a_prediction_that_is_too_large_fails_alone() -> None:
    """What can't be published would end this worker, and every one after it."""

    class Wordy(Doubling):
        def predict(self, rows: Any) -> Any:
            return [{"text": "x" * MAX_PREDICTION_BYTES} if row.n == 2 else Answer(row.n) for row in rows]

    scored = only(scorer(Wordy()).score([requests(1, 2, 3)]))
    assert (scored.completed, scored.failed) == (2, 1)
    (failed,) = (result for result in results(scored) if hasattr(result, "error"))
    assert failed.error.type == "prediction_error"
    assert len(logs(scored)) == 3

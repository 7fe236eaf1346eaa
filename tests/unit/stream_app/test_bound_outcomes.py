"""Outcomes of records of an existing topic: exactly one each, where the declaration says, and as it says."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message
from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.dead_letters.letter import read_origin
from machine_learning_engineering.declaration.reading import InvalidDeclaration
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.schemas import PredictionCompleted, PredictionFailed, SourcePosition
from machine_learning_engineering.events.sources import source_header
from stream_app.serving.bindings import SAMPLED, TRUSTED_AGE_MILLISECONDS, Binding, bindings_of
from stream_app.serving.outcomes import ScoredBatch
from stream_app.serving.scorer import Scorer
from tests.support.bound import ORDERS, binding, event, source_batch, source_record
from tests.support.request_records import Doubling, batch_of, record, request
from tests.support.scorer_outputs import NOW, TOPICS, TRACE, Clock, logs, on, only, results

ID = 'request_id = "order.id"'
OWN = 'topic = "scores"'


def score(bound: Binding, *records: Message, bad: frozenset[int] = frozenset(), limit: int = 10_000) -> ScoredBatch:
    """The outcomes of records of one partition of `ORDERS`."""
    found = Scorer(
        {"doubling": Doubling(bad)},
        TOPICS,
        max_request_bytes=limit,
        clock=Clock(NOW),
        bindings=bindings_of([bound]),
    )
    return only(found.score([source_batch(records)]))


def reasons(scored: ScoredBatch) -> list[str]:
    return [read_origin(letter.headers).reason for letter in on(scored, "dead-letters")]


def own(scored: ScoredBatch, topic: str = "scores") -> list[dict[str, Any]]:
    return [json.loads(output.value or b"") for output in on(scored, topic)]


def test_a_record_is_answered_as_a_request_is() -> None:
    scored = score(binding(ID), source_record(event(3), 17))
    (result,) = results(scored)
    assert isinstance(result, PredictionCompleted)
    assert (result.request_id, result.model, events.parse(result.prediction)) == ("o3", "doubling", {"doubled": 6})
    assert result.source == SourcePosition(ORDERS, 2, 17)
    (log,) = logs(scored)
    assert (log.topic, log.partition, log.offset, bytes(log.features)) == (ORDERS, 2, 17, b'{"n":3}')
    assert [output.key for output in on(scored, "results") + on(scored, "logs")] == [b"customer-7"] * 2


RECORDS = st.lists(
    st.sampled_from(
        [
            event(1),
            event(2),
            event(13),  # predict raises
            event("text"),
            event(None),
            b"{}",
            b"",
            b"[1]",
            b'{"order": 5}',
            b"\xff",
            b'{"order":{"id":"o","n":NaN}}',
            b"\0\0\0\0\7avro",
            None,
            b'{"order":{"id":"o","n":2.0}}',
            b"x" * 2_000,
        ]
    ),
    min_size=1,
    max_size=12,
)


@given(RECORDS, st.sampled_from(["", OWN, OWN + '\nform = "enriched"', 'include = ["customer.id"]']))
def test_each_record_has_exactly_one_outcome_in_order(values: list[bytes | None], result: str) -> None:
    bound = binding(ID, result)
    records = [source_record(value, offset) for offset, value in enumerate(values, 100)]
    scored = score(bound, *records, bad=frozenset({13}), limit=1_000)
    answered = [log.offset for log in logs(scored)]
    set_aside = [read_origin(letter.headers).offset for letter in on(scored, "dead-letters")]
    empty = [offset for offset, value in enumerate(values, 100) if value is None]
    assert sorted(answered + set_aside + empty) == list(range(100, 100 + len(values)))
    assert answered == sorted(answered)
    assert set_aside == sorted(set_aside)
    assert scored.tombstones == len(empty)
    outputs = on(scored, bound.results)
    assert len(outputs) == len(answered) == scored.completed + scored.failed
    found = [json.loads(output.value or b"") for output in outputs]
    if bound.is_enriched:
        found = [one["prediction"] for one in found]
    assert [one["source"]["offset"] for one in found] == answered
    assert [one["request_id"] for one in found] == [log.request_id for log in logs(scored)]


@given(
    st.lists(st.tuples(st.integers(0, 99), st.sampled_from([None, [("traceparent", TRACE)]])), min_size=1, max_size=6)
)
def test_outputs_are_what_the_events_encode_to(rows: list[tuple[int, Any]]) -> None:
    """Byte for byte, although they are assembled from parts that are encoded once."""
    records = [source_record(event(n), offset, headers=headers) for offset, (n, headers) in enumerate(rows)]
    scored = score(binding(ID, 'include = ["customer.id", "order.missing"]'), *records)
    for topic, decoded in (("results", results(scored)), ("logs", logs(scored))):
        assert [output.value for output in on(scored, topic)] == [events.encode(one) for one in decoded]
    assert {bytes(one.included) for one in results(scored)} == {b'{"customer.id":7,"order.missing":null}'}  # type: ignore[arg-type]


def test_an_own_topic_has_the_key_and_the_headers_of_the_source() -> None:
    headers = [("traceparent", TRACE), ("x-empty", None), ("x-tenant", b"\xff\0")]
    scored = score(binding(ID, OWN), source_record(event(), key=None, headers=headers))
    (output,) = on(scored, "scores")
    assert (output.key, output.headers) == (None, headers)
    assert on(scored, "results") == []


def test_a_result_of_a_cloudevent_is_one_of_its_own() -> None:
    headers = [("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_type", b"shop.order"), ("ce_source", b"/shop")]
    (output,) = on(score(binding(ID, OWN), source_record(event(4), headers=headers)), "scores")
    assert dict(output.headers or ()) == {
        "ce_specversion": b"1.0",
        "ce_source": b"/shop",
        "ce_type": b"prediction.completed.v1",
        "ce_id": b"o4/prediction.completed.v1",
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b'{"order" : {"id":"a","n":1.0},\n "amount": 12.50} \n', b'{"order" : {"id":"a","n":1.0},\n "amount": 12.50'),
        (b'{"order":{"id":"a","n":13}}', b'{"order":{"id":"a","n":13}'),
    ],
)
def test_an_enriched_event_keeps_the_bytes_of_the_source(value: bytes, expected: bytes) -> None:
    bound = binding(ID, OWN + '\nform = "enriched"\nfield = "score"')
    scored = score(bound, source_record(value, 5), bad=frozenset({13}))
    (output,) = on(scored, "scores")
    made = output.value or b""
    assert made.startswith(expected + b',"score":{')
    result = events.decode_result(msgspec.json.encode(json.loads(made)["score"]))
    assert isinstance(result, PredictionFailed if b"13" in value else PredictionCompleted)
    assert result.source == SourcePosition(ORDERS, 2, 5)


def test_an_empty_event_is_enriched_without_a_comma() -> None:
    bound = binding("", OWN + '\nform = "enriched"', 'n = { type = "int", constant = 4 }')
    scored = score(bound, source_record(b" { } ", 5))
    assert own(scored)[0]["prediction"]["prediction"] == {"doubled": 8}


def test_an_event_that_has_the_field_already_is_not_enriched() -> None:
    bound = binding(ID, OWN + '\nform = "enriched"')
    scored = score(bound, source_record(event(1, prediction=2)), source_record(event(1, other="prediction"), 1))
    (letter,) = on(scored, "dead-letters")
    origin = read_origin(letter.headers)
    assert (origin.topic, origin.partition, origin.offset, origin.request_id) == (ORDERS, 2, 0, "o1")
    assert "field `prediction` already" in origin.message
    assert len(on(scored, "scores")) == 1


def test_a_result_that_its_topic_does_not_take_fails() -> None:
    bound = binding(ID, OWN + '\ninclude = ["padding"]')
    bound.max_result_bytes = 600
    scored = score(bound, source_record(event(1, padding="x" * 500)), source_record(event(2), 1))
    assert [one["type"] for one in own(scored)] == ["prediction.failed.v1", "prediction.completed.v1"]
    assert "larger than scores takes" in own(scored)[0]["error"]["message"]
    assert [log.outcome for log in logs(scored)] == ["failed", "completed"]


def test_a_compacted_topic_of_results_takes_no_record_without_a_key() -> None:
    bound = binding(ID, OWN)
    bound.needs_key = True
    scored = score(bound, source_record(event(), key=None), source_record(event(), 1))
    assert reasons(scored) == ["invalid_request"]
    assert len(own(scored)) == 1


@pytest.mark.parametrize(
    ("value", "reason", "names"),
    [
        (b"", "empty_value", "empty"),
        (b"\0\0\0\0\7abcdef", "not_json", "looks like Avro, Protobuf or JSON Schema with schema id 7"),
        (b'{"order":{"id":"x","n":NaN}}', "not_json", "field `order.n` must be a finite number"),
        (b'\xff{"order":1}', "not_utf8", "byte 0xff at 0"),
        (b"{", "not_json", "truncated"),
        (b'"text"', "invalid_request", "an event is a JSON object, not a string"),
        (b'{"order":{"n":1}}', "invalid_request", "no field `order.id`"),
        (b'{"order":[]}', "invalid_request", "field `order` must be an object, not an array"),
        (b'{"order":{"id":true,"n":1}}', "invalid_request", "`order.id` must be a string or an integer"),
        (b'{"order":{"id":"' + b"i" * 300 + b'"}}', "invalid_request", "300 characters"),
        (b" " * 10_001, "too_large", "10,001 bytes"),
        (b"[" * 5_000, "invalid_request", "nested too deeply"),
    ],
)
def test_what_is_no_event_is_a_dead_letter_that_says_why(value: bytes, reason: str, names: str) -> None:
    scored = score(binding(ID), source_record(value, 9, headers=[("h", None)]))
    (letter,) = on(scored, "dead-letters")
    origin = read_origin(letter.headers)
    assert (origin.reason, origin.topic, origin.offset, letter.value) == (reason, ORDERS, 9, value)
    assert names in origin.message
    assert (scored.completed, scored.failed) == (0, 0)


@pytest.mark.parametrize(
    ("n", "names"),
    [
        (None, "`n` is null"),
        ("12", "must be an integer"),
        ("x", "must be"),
        (1.5, "must be an integer"),
        ([], "must be"),
    ],
)
def test_features_that_do_not_fit_fail_with_their_name(n: Any, names: str) -> None:
    value = json.dumps({"order": {"id": "a", "n": n}}).encode()
    (result,) = results(score(binding(ID), source_record(value)))
    assert isinstance(result, PredictionFailed)
    assert result.error.type == "invalid_features"


@pytest.mark.parametrize(
    ("timestamp", "accepted"),
    [
        ((1, int(NOW * 1000) - 5_000), NOW - 5),
        ((1, int(NOW * 1000) + 60_000), NOW),
        ((1, -1), NOW),
        ((TIMESTAMP_LOG_APPEND_TIME, int(NOW * 1000) + 60_000), NOW + 60),
    ],
)
def test_a_producer_can_not_choose_the_day_of_the_log(timestamp: tuple[int, int], accepted: float) -> None:
    (log,) = logs(score(binding(ID), source_record(event(), timestamp=timestamp)))
    assert log.accepted_at == log.requested_at == datetime.fromtimestamp(accepted, UTC)


def test_a_producer_s_time_counts_for_a_week() -> None:
    bound, now = binding(ID), 1.7e9
    for age, kept in ((TRUSTED_AGE_MILLISECONDS, True), (TRUSTED_AGE_MILLISECONDS + 1, False)):
        then = int(now * 1000) - age
        assert bound.accepted_at(1, then, now) == (then if kept else int(now * 1000))


def test_a_record_that_is_sent_again_is_answered_as_one_of_its_source() -> None:
    """On the topic of requests, beside one of ours; and nothing of it is written to the source."""
    bound = binding(ID, OWN)
    header = source_header(SourcePosition(ORDERS, 3, 8))
    again = record(event(5), b"customer-7", offset=1, headers=[header, ("x", b"1")])
    unknown = record(event(5), offset=2, headers=[source_header(SourcePosition("other", 3, 8))])
    scorer = Scorer(
        {"doubling": Doubling()}, TOPICS, max_request_bytes=10_000, clock=Clock(NOW), bindings={ORDERS: bound}
    )
    scored = only(
        scorer.score([batch_of(record(request("r0"), offset=0), again, unknown, record(request("r3"), offset=3))])
    )
    assert [one.request_id for one in results(scored)] == ["r0", "r3"]
    (output,) = on(scored, "scores")
    assert json.loads(output.value or b"")["source"] == {"topic": ORDERS, "partition": 3, "offset": 8}
    assert (output.key, output.headers) == (b"customer-7", [("x", b"1")])
    assert [(log.request_id, log.topic, log.offset) for log in logs(scored)] == [
        ("r0", msgspec.UNSET, 0),
        ("o5", msgspec.UNSET, 1),
        ("r3", msgspec.UNSET, 3),
    ]
    (letter,) = on(scored, "dead-letters")
    assert "no model reads other" in read_origin(letter.headers).message


def test_unknown_fields_are_counted_in_one_record_of_many() -> None:
    records = [source_record(event(offset), offset) for offset in range(2 * SAMPLED)]
    assert score(binding(ID), *records).unknown_fields == 2 * len(["order.channel", "customer"])
    scored = score(binding(ID + '\nunknown_fields = "refuse"'), source_record(event()))
    (result,) = results(scored)
    assert isinstance(result, PredictionFailed)
    assert "field `order.channel` is unknown" in result.error.message


@pytest.mark.parametrize(
    ("result", "names"),
    [
        ('form = "enriched"', "result.form: enriched needs result.topic"),
        (f'topic = "{ORDERS}"', "result.topic: orders is the source"),
        ('include = ["order"]', "field `order` is read as a value, and as an object"),
        ('include = ["order.items[0]"]', "result.include: .* array"),
    ],
)
def test_bad_declarations_name_the_field(result: str, names: str) -> None:
    with pytest.raises(InvalidDeclaration, match=names):
        binding(ID, result)


def test_a_topic_has_one_model_and_results_do_not_come_back() -> None:
    with pytest.raises(InvalidDeclaration, match="orders is read for doubling already"):
        bindings_of([binding(), binding(model="other")])
    there, back = binding("", 'topic = "b"'), binding('topic = "b"', f'topic = "{ORDERS}"', model="other")
    with pytest.raises(InvalidDeclaration, match="results of doubling come back"):
        bindings_of([there, back])
    assert set(bindings_of([there, binding('topic = "b"', 'topic = "c"', model="other")])) == {ORDERS, "b"}

"""Scoring: from raw records to what is published for them."""

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.dead_letters.letter import read_origin, without_origin
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.schemas import PredictionCompleted, PredictionFailed
from tests.support.request_records import REQUESTS, Answer, Doubling, Features, batch_of, record, request, requests
from tests.support.scorer_outputs import TRACE, Clock, logs, on, only, outputs_of, results, scorer

ROWS = st.lists(st.integers(0, 1_000), min_size=1, max_size=80, unique=True)


@given(ROWS.flatmap(lambda rows: st.tuples(st.just(rows), st.sets(st.sampled_from(rows)))))
def test_exactly_the_bad_rows_fail(drawn: tuple[list[int], set[int]]) -> None:
    """Whichever rows make predict raise: all others are completed, and few calls are needed to isolate them."""
    rows, bad = drawn
    model = Doubling(frozenset(bad))
    scored = only(scorer(model).score([requests(*rows)]))
    answers = {}
    for result, log in zip(results(scored), logs(scored), strict=True):
        assert result.request_id == log.request_id
        number = rows[int(result.request_id.split("-")[1])]
        answers[number] = result
        if number in bad:
            assert isinstance(result, PredictionFailed)
            assert result.error.type == log.error.type == "prediction_error"
            assert re.fullmatch(
                r"model doubling: predict raised RuntimeError at request_records\.py:\d+ in predict",
                result.error.message,
            )
        else:
            assert isinstance(result, PredictionCompleted)
            assert events.parse(result.prediction) == events.parse(log.prediction) == {"doubled": 2 * number}
    assert set(answers) == set(rows)
    assert (scored.completed, scored.failed, scored.dead_letters) == (len(rows) - len(bad), len(bad), 0)
    # A bad row costs the two halves of each batch on its way down.
    assert len(model.calls) <= 1 + 2 * len(bad) * math.ceil(math.log2(max(2, len(rows))))


def test_good_rows_are_one_call() -> None:
    """The rows of all partition batches together."""
    model = Doubling()
    scored = scorer(model).score([requests(1, 2, 3), requests(4, 5, partition=1), requests(6, partition=2)])
    assert model.calls == [6]
    assert [len(results(scored_batch)) for scored_batch in scored] == [3, 2, 1]
    assert {log.batch_size for scored_batch in scored for log in logs(scored_batch)} == {6}


def test_outputs_belong_to_their_batch_in_the_order_of_its_requests() -> None:
    """A batch and all that it causes is one unit: each request has a result and a log record, in order."""
    batches = [requests(1, 2, 3, first=10), requests(4, 5, partition=1)]
    scored = scorer(Doubling()).score(batches)
    assert [scored_batch.batch for scored_batch in scored] == batches
    for scored_batch in scored:
        keys = [found.key() for found in scored_batch.batch.records]
        assert [output.key for output in on(scored_batch, "results")] == keys
        assert [output.key for output in on(scored_batch, "logs")] == keys
        positions = [(found.partition(), found.offset()) for found in scored_batch.batch.records]
        assert [(log.partition, log.offset) for log in logs(scored_batch)] == positions


@given(
    st.lists(
        st.tuples(
            st.text(min_size=1, max_size=8) | st.sampled_from(["\0", '"', "\n", "%b", "\\"]),
            st.integers(0, 10**6),
            st.sampled_from([None, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.25+02:00"]),
            st.sampled_from([1_000.0, 1_000.001, 1_009.5]),
            st.sampled_from([None, [("traceparent", TRACE)]]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_outputs_are_what_the_events_encode_to(rows: list[Any]) -> None:
    """Byte for byte, whatever the id: they are assembled from parts that are encoded once for many requests."""
    records = [
        record(request(name, n, **({"requested_at": at} if at else {})), offset=n, accepted=accepted, headers=headers)
        for name, n, at, accepted, headers in rows
    ]
    scored = only(scorer(Doubling()).score([batch_of(*records)]))
    for topic, decoded in (("results", results(scored)), ("logs", logs(scored))):
        assert [output.value for output in on(scored, topic)] == [events.encode(event) for event in decoded]
    for (name, n, at, accepted, headers), result, log in zip(rows, results(scored), logs(scored), strict=True):
        assert result.request_id == log.request_id == name
        assert result.requested_at == log.requested_at == (datetime.fromisoformat(at) if at else log.accepted_at)
        assert log.accepted_at == datetime.fromtimestamp(accepted, UTC)
        assert log.queue_seconds == pytest.approx(1_010.0 - accepted)
        assert (log.offset, events.parse(log.prediction)) == (n, {"doubled": 2 * n})
        assert log.traceparent == (TRACE.decode() if headers else msgspec.UNSET)


class Odd(Doubling):
    """Answers with the wrong number of predictions."""

    def __init__(self, extra: int) -> None:
        super().__init__()
        self.extra = extra

    def predict(self, rows: Sequence[Features]) -> list[Answer]:
        return [Answer(0)] * (len(rows) + self.extra)


@pytest.mark.parametrize("extra", [-1, 1])
def test_a_wrong_number_of_predictions_fails_all_rows(extra: int) -> None:
    """It is unknown which prediction is missing."""
    scored = only(scorer(Odd(extra)).score([requests(1, 2, 3, 4)]))
    assert scored.failed == 4
    assert {result.error.type for result in results(scored) if isinstance(result, PredictionFailed)} == {
        "prediction_error"
    }


def test_an_unknown_model() -> None:
    """It is a failed result that names the models in service."""
    asked = batch_of(record(request("r1", model="unknown"), b"r1"))
    scored = only(scorer(Doubling()).score([asked]))
    (result,) = results(scored)
    assert isinstance(result, PredictionFailed)
    assert result.error.type == "unknown_model"
    assert "'unknown'" in result.error.message
    assert "doubling" in result.error.message
    (log,) = logs(scored)
    assert (log.outcome, log.error, log.model) == ("failed", result.error, "unknown")
    assert not on(scored, "dead-letters")


def test_a_worker_without_models_says_so() -> None:
    """Every request still gets a failed result."""
    scored = only(scorer().score([requests(1)]))
    (result,) = results(scored)
    assert isinstance(result, PredictionFailed)
    assert result.error.message.endswith("serves: none")


@pytest.mark.parametrize("n", ["one", None, 1.5, [1], {"n": 1}])
def test_features_that_the_model_refuses(n: Any) -> None:
    """They are a failed result with the model's own message; the other rows are not affected."""
    model = Doubling()
    asked = batch_of(record(request("r1", n), b"r1"), record(request("r2", 2), b"r2", offset=1))
    scored = only(scorer(model).score([asked]))
    by_id = {result.request_id: result for result in results(scored)}
    refused = by_id["r1"]
    assert isinstance(refused, PredictionFailed)
    assert refused.error.type == "invalid_features"
    assert "`n`" in refused.error.message
    assert refused.model_version == "v1"
    assert isinstance(by_id["r2"], PredictionCompleted)
    assert model.calls == [1]


@pytest.mark.parametrize("raw", [b"not JSON", b"\xff\xfe\x00", None, b"", b"{}", b"x" * 10_001])
def test_a_dead_letter_is_the_record_as_it_came(raw: bytes | None) -> None:
    """Value, key and headers are unchanged; additional headers hold the reason and the origin."""
    headers = [("a", b"1"), ("a", b"2"), ("binary", b"\xff"), ("traceparent", TRACE)]
    asked = batch_of(record(raw, b"\x00key", offset=7, partition=3, headers=headers))
    scored = only(scorer(Doubling()).score([asked]))
    (dead_letter,) = outputs_of(scored)
    assert (dead_letter.topic, dead_letter.key, dead_letter.value) == ("dead-letters", b"\x00key", raw)
    assert without_origin(dead_letter.headers) == headers
    origin = read_origin(dead_letter.headers)
    assert (origin.topic, origin.partition, origin.offset, origin.stage) == (REQUESTS, 3, 7, "decode")
    assert origin.reason in {"not_json", "not_utf8", "empty_value", "invalid_request", "too_large"}
    assert origin.message
    assert (scored.completed, scored.failed, scored.dead_letters) == (0, 0, 1)


def test_a_dead_letter_may_have_no_key() -> None:
    """It stays without one."""
    scored = only(scorer(Doubling()).score([batch_of(record(request("r1", unknown=1), None))]))
    (dead_letter,) = outputs_of(scored)
    assert dead_letter.key is None
    origin = read_origin(dead_letter.headers)
    assert (origin.reason, origin.model, origin.request_id) == ("invalid_request", "doubling", "r1")


def test_outputs_are_in_the_order_of_their_requests_whatever_becomes_of_them() -> None:
    """Of two models, failed before and while they are scored: a customer's results come in the customer's order."""
    models = {"doubling": Doubling(frozenset({7})), "other": Doubling()}
    names = ["doubling", "other", "nobody", "doubling", "other", "doubling"]
    numbers: list[Any] = [1, 2, 3, 7, "text", 5]
    batches = [
        batch_of(
            *(
                record(request(f"{partition}-{place}", number, name), b"c", offset=10 + place, partition=partition)
                for place, (name, number) in enumerate(zip(names, numbers, strict=True))
            )
        )
        for partition in (0, 1)
    ]
    for partition, scored in enumerate(scorer(*models.values()).score(batches)):
        ids = [f"{partition}-{place}" for place in range(6)]
        assert [result.request_id for result in results(scored)] == ids
        assert [log.request_id for log in logs(scored)] == ids
        assert [log.offset for log in logs(scored)] == list(range(10, 16))
        assert (scored.completed, scored.failed) == (3, 3)


@given(st.lists(st.sampled_from(["doubling", "other", "nobody"]), min_size=1, max_size=40))
def test_any_mixture_of_models_keeps_its_order(names: list[str]) -> None:
    """Results and log records."""
    records = [record(request(str(place), 1, name), offset=place) for place, name in enumerate(names)]
    scored = only(scorer(Doubling(), Doubling()).score([batch_of(*records)]))
    ids = [str(place) for place in range(len(names))]
    assert [result.request_id for result in results(scored)] == [log.request_id for log in logs(scored)] == ids


@pytest.mark.parametrize("key", [None, b"", b"customer-7", b"\x00\xff", b"k" * 1_024])
def test_outputs_carry_the_key_of_their_request(key: bytes | None) -> None:
    """Whatever it is: completed, failed and unreadable requests."""
    values = [request("good"), request("bad", "text"), b"no request"]
    asked = batch_of(*(record(value, key, offset=offset) for offset, value in enumerate(values)))
    scored = only(scorer(Doubling()).score([asked]))
    assert (scored.completed, scored.failed, scored.dead_letters) == (1, 1, 1)
    assert [output.key for output in outputs_of(scored)] == [key] * 5
    assert {result.request_id for result in results(scored)} == {"good", "bad"}


def test_times() -> None:
    """Accepted is the broker's time, requested the producer's, and durations run from the one to the other."""
    clock = Clock(1_010.0, 1_011.0, 1_013.0, 1_014.0)
    at = "2026-01-01T12:00:00Z"
    asked = batch_of(
        record(request("r1", requested_at=at), b"r1", accepted=1_000.5), record(request("r2"), b"r2", offset=1)
    )
    first, second = logs(only(scorer(Doubling(), clock=clock).score([asked])))
    assert first.accepted_at == datetime.fromtimestamp(1_000.5, UTC)
    assert first.requested_at == datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert (first.queue_seconds, first.score_seconds) == (9.5, 2.0)
    assert first.total_seconds == first.completed_at.timestamp() - 1_000.5
    assert second.requested_at == second.accepted_at == datetime.fromtimestamp(1_000, UTC)


@given(st.lists(st.floats(0, 2_000), min_size=1, max_size=6), st.floats(0, 4_000))
def test_no_duration_is_negative(times: list[float], accepted: float) -> None:
    """Clocks that are off by an hour, or are set back in the middle of a batch, give 0."""
    asked = batch_of(
        record(request("r1"), b"r1", accepted=accepted),
        record(request("r2", model="unknown"), b"r2", offset=1, accepted=accepted),
        record(request("r3", 3), b"r3", offset=2, accepted=accepted),
    )
    scored = only(scorer(Doubling(frozenset({3})), clock=Clock(*times)).score([asked]))
    found = logs(scored)
    assert len(found) == 3
    assert all(min(log.queue_seconds, log.score_seconds, log.total_seconds) >= 0 for log in found)


def test_the_same_request_twice_in_a_scoring_batch_is_answered_twice_and_equally() -> None:
    """At-least-once: readers take the first answer of an id. Both records need an outcome to be committed."""
    asked = batch_of(record(request("r1"), b"r1"), record(request("r1"), b"r1", offset=1))
    first, second = results(only(scorer(Doubling()).score([asked])))
    assert first == second


class Unwritable(Doubling):
    """Predicts what JSON can't encode."""

    def predict(self, rows: Sequence[Features]) -> list[Any]:
        return [object() if row.n == 2 else Answer(1) for row in rows]


def test_an_answer_that_cannot_be_written_fails_its_request_alone() -> None:
    """A model's bug in one row must not stop the worker: the same record would stop each of its successors."""
    scored = only(scorer(Unwritable()).score([requests(1, 2, 3)]))
    assert (scored.completed, scored.failed) == (2, 1)


class Measure(msgspec.Struct, frozen=True):
    """An answer of which a part may be missing."""

    doubled: float
    margin: float | None = None


class Overflowing(Doubling):
    """Predicts non-finite numbers for some rows."""

    def __init__(self, wrong: dict[int, float]) -> None:
        super().__init__()
        self.wrong = wrong

    def predict(self, rows: Sequence[Features]) -> list[Any]:
        return [Measure(self.wrong.get(row.n, 2.0 * row.n)) for row in rows]


def test_an_answer_that_is_not_finite_fails_its_request_alone() -> None:
    """JSON has no such number. A prediction with an optional field that is null is valid."""
    model = Overflowing({2: math.inf, 3: math.nan, 5: -math.inf})
    scored = only(scorer(model).score([requests(1, 2, 3, 4, 5, 6)]))
    assert (scored.completed, scored.failed) == (3, 3)
    outcomes = [
        events.parse(result.prediction) if isinstance(result, PredictionCompleted) else result.error.type
        for result in results(scored)
    ]
    failed = "prediction_error"
    one, four, six = ({"doubled": 2.0 * n, "margin": None} for n in (1, 4, 6))
    assert outcomes == [one, failed, failed, four, failed, six]
    assert [log.outcome for log in logs(scored)] == [
        "completed" if isinstance(outcome, dict) else "failed" for outcome in outcomes
    ]


class Raising(Doubling):
    """Its decode raises an error other than ValueError."""

    def decode(self, raw: Any) -> Features:
        raise KeyError("a mistake in the model's code")


def test_a_mistake_in_a_models_decode_fails_the_request() -> None:
    """For the same reason."""
    scored = only(scorer(Raising()).score([requests(1)]))
    assert scored.failed == 1

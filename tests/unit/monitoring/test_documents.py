"""The document of a log event."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from machine_learning_engineering.core.json_values import canonical_json
from machine_learning_engineering.events.fingerprint import fingerprint
from machine_learning_engineering.events.schemas import Error, PredictionLogged
from machine_learning_engineering.observability.trace import trace_ids
from monitoring.documents.log import document_id, index_name, to_document

Logged = Callable[..., PredictionLogged]
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_completed_request_becomes_an_ecs_document(logged: Logged) -> None:
    """Every field, once, with its value."""
    document = json.loads(to_document(logged(traceparent=TRACE)))
    print_of_request = document["inflight"].pop("fingerprint")
    assert len(print_of_request) == 32
    assert document == {
        "@timestamp": "2026-03-01T12:00:00Z",
        "ecs": {"version": "8.11.0"},
        "service": {"name": "inflight"},
        "event": {
            "kind": "event",
            "category": ["api"],
            "type": ["info"],
            "action": "prediction",
            "module": "inflight",
            "dataset": "inflight.inference",
            "outcome": "success",
            "duration": 3_500_000,
        },
        "trace": {"id": "4bf92f3577b34da6a3ce929d0e0e4736"},
        "span": {"id": "00f067aa0ba902b7"},
        "inflight": {
            "request_id": "r1",
            "model": {"name": "diamonds", "version": "3"},
            "outcome": "completed",
            "requested_at": "2026-03-01T12:00:00Z",
            "completed_at": "2026-03-01T12:00:00Z",
            "queue_seconds": 0.001,
            "score_seconds": 0.002,
            "total_seconds": 0.0035,
            "batch_size": 7,
            "kafka": {"partition": 2, "offset": 40},
            "features": {"carat": 0.23, "cut": "Ideal"},
            "prediction": {"price": 326.5},
        },
    }


def test_a_failed_request_has_its_error_and_no_prediction(logged: Logged) -> None:
    """A failure is a document too, and what was sent can be read in it."""
    document = json.loads(to_document(logged(error=Error("invalid_features", "carat: expected a number"))))
    assert document["event"]["outcome"] == "failure"
    assert document["error"] == {"type": "invalid_features", "message": "carat: expected a number"}
    assert "prediction" not in document["inflight"]
    assert document["inflight"]["features_text"] == '{"carat": 0.23, "cut": "Ideal"}'
    assert "features" not in document["inflight"]


def test_features_of_a_model_that_failed_stay_searchable(logged: Logged) -> None:
    """They fit the model's schema, so they are what to search for when a model raises."""
    document = json.loads(to_document(logged(error=Error("prediction_error", "predict raised ValueError"))))
    assert document["inflight"]["features"] == {"carat": 0.23, "cut": "Ideal"}


@pytest.mark.parametrize(
    "features",
    [
        b"5",
        b"null",
        b'["a"]',
        b'{"a": ' * 21 + b"1" + b"}" * 21,
        b'{"a": "' + b"x" * 40_000 + b'"}',
        b'{"' + b"k" * 40_000 + b'": 1}',
        b'{"a\\u0000b": 1}',
        b'{"a": 1e999}',
        b'{"a": "\xff"}',
        b'{"a": ' * 900 + b"1" + b"}" * 900,
    ],
)
def test_what_a_flattened_field_can_not_hold_is_kept_as_text(logged: Logged, features: bytes) -> None:
    """Even where the model has understood it."""
    document = json.loads(to_document(logged(features=features)))
    assert "features" not in document["inflight"]
    assert document["inflight"]["features_text"] == features.decode(errors="replace")


def test_many_brackets_that_are_not_deep_stay_searchable(logged: Logged) -> None:
    """Brackets in a text, or many short arrays, are not depth."""
    features = {"text": "[x] {y} " * 30, "rows": [[n] for n in range(40)]}
    document = json.loads(to_document(logged(features=json.dumps(features).encode())))
    assert document["inflight"]["features"] == features


def test_a_key_that_is_repeated_comes_once(logged: Logged) -> None:
    """Elasticsearch refuses a repeated key; the model has seen the last one."""
    line = to_document(logged(features=b'{"a": 1, "a": 2}'))
    assert b'"features":{"a":2}' in line


def test_line_breaks_do_not_break_the_bulk_format(logged: Logged) -> None:
    """JSON allows them between tokens; a bulk request does not."""
    event = logged(features=b'{\n "a": "x\\ny"\n}', prediction=Raw(b'{\n "b": "x\\ny"\r\n}'))
    line = to_document(event)
    assert b"\n" not in line
    assert json.loads(line)["inflight"]["prediction"] == {"b": "x\ny"}
    failed = to_document(logged(features=b"[\n1]", error=Error("invalid_features", "no")))
    assert b"\n" not in failed
    assert json.loads(failed)["inflight"]["features_text"] == "[\n1]"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values, st.booleans())
def test_the_fingerprint_does_not_depend_on_spelling(value: Any, ascii_only: bool) -> None:
    """Order of keys, white space and escapes are spelling."""
    tight = Raw(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=ascii_only).encode())
    loose = Raw(json.dumps(value, indent=2).encode())
    assert fingerprint("m", tight) == fingerprint("m", loose)
    assert json.loads(canonical_json(loose) or b"") == value


def test_the_fingerprint_tells_models_and_values_apart() -> None:
    """Also values that no JSON number can hold."""
    bodies = [b'{"a":1}', b'{"a":2}', b'{"b":1}', b'{"a":"1"}', b'{"a":1e999}', b'{"a":1e998}']
    prints = {fingerprint(model, Raw(body)) for model in ("m", "n") for body in bodies}
    assert len(prints) == 2 * len(bodies)


def test_the_index_is_that_of_the_utc_day() -> None:
    """Whatever the offset that the time is written with."""
    evening = datetime(2026, 3, 1, 23, 30, tzinfo=timezone(timedelta(hours=-5)))
    assert index_name(evening) == "inference-logs-2026.03.02"


@pytest.mark.parametrize("request_id", ["a" * 512, "ä" * 257])
def test_an_id_that_is_too_long_for_elasticsearch_is_digested(request_id: str) -> None:
    """The limit is in bytes."""
    identity = document_id(request_id)
    assert len(identity.encode()) <= 512
    assert (identity == request_id) is (len(request_id.encode()) <= 512)


def test_no_sender_takes_the_document_of_a_long_id() -> None:
    """By sending the digest as an id, however often it is digested."""
    identity = document_id("é" * 257)
    taken = document_id(identity)
    assert len({identity, taken, document_id(taken)}) == 3


@pytest.mark.parametrize("traceparent", ["", "00-xyz", TRACE.upper(), TRACE + "-more"])
def test_a_malformed_traceparent_is_left_out(logged: Logged, traceparent: str) -> None:
    """It came from somebody else's header, so it may be anything."""
    assert trace_ids(traceparent) is None
    assert b'"trace"' not in to_document(logged(traceparent=traceparent))

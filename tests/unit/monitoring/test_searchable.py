"""What of a prediction becomes fields of its own, and what is only kept as text."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from machine_learning_engineering.events.schemas import PredictionLogged
from monitoring.documents.log import to_document, to_fields
from monitoring.documents.searchable import searchable_part

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "a.b", "", " "]), inner),
)


@pytest.mark.parametrize(
    ("prediction", "part"),
    [
        ({"price": 1.5}, {"price": 1.5}),
        ({"label": "cat", "top": [["cat", 0.9], ["dog", 0.1]]}, {"label": "cat"}),
        ({"top": [["cat", 0.9]]}, None),
        ({"a": 1, "b": [True, 1]}, {"a": 1}),
        ({"a": [{"x": 1}, {"x": "1"}], "b": 2}, {"b": 2}),
        ({"a.b": 1, "a": {"b": "x"}, "c": 3}, {"c": 3}),
        ({"a": [None, 1], "b": None}, {"a": [None, 1], "b": None}),
        ({"a": 1, "a.b": "x"}, {"a": 1, "a.b": "x"}),
        ({"": 1, " ": 2, "c": 3}, {"c": 3}),
        ([1, 2], None),
        ("cat", None),
        (0.5, None),
    ],
)
def test_a_member_with_two_types_under_one_path_is_left_out(prediction: Any, part: Any) -> None:
    """The others stay searchable; and it is told whether these are all."""
    found, complete = searchable_part(json.dumps(prediction).encode())
    assert (None if found is None else json.loads(found)) == part
    assert complete == (part == prediction)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":' * 21 + b"1" + b"}" * 21,
        b'{"a":' + b"[" * 3_000 + b"]" * 3_000 + b"}",
        b'{"a":' + b"1" * 1_001 + b"}",
        b'{"a":1e400}',
        b'{"a":"\xff"}',
    ],
)
def test_what_ends_a_node_or_is_rejected_is_text(text: bytes) -> None:
    """However deep, long or broken."""
    assert searchable_part(text) == (None, False)


def test_a_repeated_name_is_one_member() -> None:
    """Elasticsearch rejects a document with a name that is repeated."""
    assert searchable_part(b'{"a": 1,\n "a": "x"}') == (b'{"a":"x"}', True)


@given(JSON)
def test_each_path_of_a_part_has_one_type(value: Any) -> None:
    """Whatever a model answers."""
    part, complete = searchable_part(json.dumps(value).encode())
    types: dict[str, set[type]] = {}

    def walk(path: str, inner: Any) -> None:
        if isinstance(inner, dict):
            for name, member in inner.items():
                walk(f"{path}.{name}" if path else name, member)
        elif isinstance(inner, list):
            for member in inner:
                walk(path, member)
        elif inner is not None:
            types.setdefault(path, set()).add(float if type(inner) is int else type(inner))

    if part is not None:
        walk("", json.loads(part))
        assert all(len(kinds) == 1 for kinds in types.values())
    if complete:
        assert part is not None
        assert json.loads(part) == value


def test_the_whole_prediction_is_kept(logged: Callable[..., PredictionLogged]) -> None:
    """As text, where a part of it can't be searched for."""
    text = b'{"label": "cat", "top": [["cat", 0.9]]}'
    fields = to_fields(logged(prediction=Raw(text))).inflight
    assert (fields.prediction, fields.prediction_text) == (Raw(b'{"label":"cat"}'), text.decode())


def test_times_are_in_utc(logged: Callable[..., PredictionLogged]) -> None:
    """Elasticsearch rejects an offset of more than 18 hours, and no request may keep itself out of the index."""
    first, last = datetime(1, 1, 1, tzinfo=UTC), datetime.fromisoformat("9999-12-31T23:59:59-23:59")
    at = datetime.fromisoformat("2026-03-02T11:58:00+23:59")
    document = json.loads(to_document(logged(requested_at=at, completed_at=last)))
    assert document["inflight"]["requested_at"] == "2026-03-01T11:59:00Z"
    assert document["inflight"]["completed_at"].startswith("9999-12-31T23:59:59")
    document = json.loads(to_document(logged(requested_at=datetime.fromisoformat("0001-01-01T00:00:00+05:00"))))
    assert datetime.fromisoformat(document["inflight"]["requested_at"]) == first

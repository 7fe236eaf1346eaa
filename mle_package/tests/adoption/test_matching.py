"""Which field of an event is which feature: by name and type, and never by a guess."""

import json
from typing import Any

import pytest

from machine_learning_engineering.adoption.matching import EventFields, find_fields, match_features
from machine_learning_engineering.adoption.proposal import model_name
from machine_learning_engineering.declaration.schema import FeatureDeclaration


def fields(*events: Any, keys: tuple[bytes | None, ...] = ()) -> EventFields:
    found = [json.dumps(event).encode() for event in events]
    return find_fields(zip(keys or [None] * len(found), found, strict=True))


@pytest.mark.parametrize(
    ("feature", "kind", "event", "paths"),
    [
        ("amount", "float", {"order": {"amount": 1.5}}, ("order.amount",)),
        ("amount", "float", {"amount": 1}, ("amount",)),
        ("account_days", "float", {"customer": {"accountDays": 1}}, ("customer.accountDays",)),
        ("customer_country", "text", {"customer": {"country": "DE"}}, ("customer.country",)),
        ("country", "text", {"home": {"country": "DE"}, "sent": {"country": "AT"}}, ("home.country", "sent.country")),
        ("id", "text", {"id": 5, "order": {"id": "x"}}, ("id",)),
        ("size", "int", {"a": {"size": 1.5}, "b": {"size": 2.0}}, ("b.size",)),
        ("flag", "bool", {"a": {"flag": 1}, "b": {"flag": True}}, ("b.flag",)),
        ("nothing", "float", {"order": {"amount": 1.5}}, ()),
        ("lines", "float", {"lines": [1, 2], "a.b": 3}, ()),
    ],
)
def test_paths_of_a_feature(feature: str, kind: Any, event: Any, paths: tuple[str, ...]) -> None:
    match = match_features({feature: FeatureDeclaration(kind)}, fields(event))[feature]
    assert match.paths == paths
    assert match.path == (paths[0] if len(paths) == 1 else None)


def test_what_identifies_and_dates_an_event() -> None:
    events = [
        {"id": number, "customer": {"id": number % 2}, "ts": 1_790_000_000 + number, "count": number}
        for number in range(4)
    ]
    found = fields(*events, keys=(b"0", b"1", b"0", b"1"))
    assert (found.events, found.key, found.request_id, found.requested_at) == (4, "customer.id", "id", "ts")


def test_an_id_that_repeats_or_is_missing_identifies_nothing() -> None:
    assert fields({"id": 1}, {"id": 1}).request_id == ""
    assert fields({"id": 1}, {"other": 1}).request_id == ""
    assert fields({"id": 1}).request_id == ""


def test_times_are_whole_times() -> None:
    """One without an offset, or a number that may be anything, is none."""
    assert fields({"created_at": "2026-01-01T00:00:00Z"}).requested_at == "created_at"
    assert fields({"created_at": "2026-01-01T00:00:00"}).requested_at == ""
    assert fields({"ts": 17}).requested_at == ""


def test_what_is_no_event_is_passed_over() -> None:
    found = find_fields([(None, None), (None, b"\x00\x00\x00\x00\x07abc"), (b"k", b"[1]"), (b"k", b'{"a": 1}')])
    assert (found.events, dict(found.values)) == (1, {"a": [1]})


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("fraud.joblib", "fraud"),
        ("models/Fraud Model.v2.pkl", "fraud-model"),
        ("mlflow:models:/fraud/1", "fraud"),
        ("mlflow:models:/fraud@champion", "fraud"),
        ("---.skops", "model"),
    ],
)
def test_the_name_of_a_model_is_that_of_its_file(source: str, name: str) -> None:
    assert model_name(source) == name

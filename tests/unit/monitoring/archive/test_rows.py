"""Records become rows that both databases take, or are unreadable."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw

from machine_learning_engineering.events.schemas import ApiCalled, Error, LabelReported, PredictionLogged, encode
from machine_learning_engineering.events.topics import API_CALLS, LABELS, LOGS
from monitoring.archive.rows import PROJECTIONS, UNREADABLE, Row, id_text
from monitoring.archive.tables import metadata
from tests.unit.monitoring.conftest import ACCEPTED

Logged = Callable[..., PredictionLogged]


def row(make: Any, topic: str, event: Any, **record: Any) -> Row:
    value = event if isinstance(event, bytes) else encode(event)
    return PROJECTIONS[topic].row(make(value, topic=topic, **record))


def called(**fields: Any) -> ApiCalled:
    given: dict[str, Any] = {"call_id": "c-1", "method": "GET", "route": "/v1/models", "status": 200}
    given |= {"started_at": ACCEPTED, "seconds": 0.5, "request_bytes": 0, "response_bytes": 2}
    return ApiCalled(**given | fields)


def test_a_row_has_every_column_of_its_table(make: Any, logged: Logged) -> None:
    events = {
        LOGS: logged(),
        LABELS: LabelReported("r1", "diamonds", Raw(b"1"), ACCEPTED),
        API_CALLS: called(request_id="r1"),
    }
    for topic, event in events.items():
        found = row(make, topic, event)
        table = metadata.tables[found.table]
        assert set(found.values) == {column.name for column in table.columns}
        assert found.key == tuple(found.values[column.name] for column in table.primary_key)
        assert found.topic == topic


def test_features_stay_as_they_were_sent(make: Any, logged: Logged) -> None:
    """Byte for byte: white space, the order of fields, digits."""
    sent = b'{ "carat" : 0.230, "cut":"Ideal", "z": 1e2 }'
    found = row(make, LOGS, logged(features=sent)).values
    assert (found["features"], found["features_text"]) == (sent.decode(), None)


@pytest.mark.parametrize(
    "sent",
    [b'{"a":"\\u0000"}', b'{"\\u0000":1}', b'{"a":"\\\\\\u0000"}', b"[" * 101 + b"]" * 101, b'{"a":1e999999}'],
)
def test_what_a_database_could_not_read_back_is_text(make: Any, logged: Logged, sent: bytes) -> None:
    found = row(make, LOGS, logged(features=sent, error=Error("invalid_features", "no"))).values
    assert (found["features"], found["features_text"]) == (None, sent.decode())


def test_an_escaped_backslash_is_no_nul(make: Any, logged: Logged) -> None:
    sent = b'{"a":"\\\\u0000"}'
    assert row(make, LOGS, logged(features=sent)).values["features"] == sent.decode()


def test_ids_with_nul_stay_apart(make: Any, logged: Logged) -> None:
    """PostgreSQL can't store NUL."""
    ids = ["a\x00b", "a�b", "a\x00\x00b", "a"]
    keys = [row(make, LOGS, logged(request_id=one)).key[0] for one in ids]
    assert len(set(keys)) == 4
    assert not any("\x00" in key for key in keys)
    assert id_text("a�b") == "a�b"
    label = row(make, LABELS, LabelReported("a\x00b", "diamonds", Raw(b"1"), ACCEPTED))
    assert label.key[0] == keys[0]


def test_a_failed_request_has_its_error(make: Any, logged: Logged) -> None:
    found = row(make, LOGS, logged(error=Error("unknown_model", "no \x00"), model_version=UNSET)).values
    assert (found["outcome"], found["error_type"], found["error_message"]) == ("failed", "unknown_model", "no �")
    assert (found["prediction"], found["model_version"]) == (None, "")


def test_a_label_is_canonical_and_tells_its_source(make: Any) -> None:
    event = LabelReported("r1", "diamonds", Raw(b'{"b": 1, "a": 2}'), ACCEPTED - timedelta(days=1))
    found = row(make, LABELS, event, headers=[("ce_source", b"shop")])
    assert found.values["label"] == found.values["label_text"] == '{"a":2,"b":1}'
    assert found.values["source"] == "shop"
    # By when it was reported: a label of an old request is kept as long as any other.
    assert found.at == datetime.fromtimestamp(1_772_366_400, UTC)


@pytest.mark.parametrize(
    ("topic", "value"),
    [
        (LOGS, b""),
        (LOGS, b"{"),
        (LABELS, b"[]"),
        (API_CALLS, b"\xff"),
        (API_CALLS, b"[" * 100_000),
        (LABELS, encode(LabelReported("r1", "diamonds", Raw(b"null"), ACCEPTED))),
        (LABELS, encode(LabelReported("r1", "diamonds", Raw(b"1"), ACCEPTED + timedelta(days=3650)))),
        (API_CALLS, encode(called(started_at=ACCEPTED + timedelta(days=3650)))),
        (API_CALLS, encode(called(request_bytes=1)).replace(b'"request_bytes":1', b'"request_bytes":' + b"9" * 25)),
    ],
)
def test_what_is_no_record_of_its_topic_is_unreadable(make: Any, topic: str, value: bytes) -> None:
    with pytest.raises(UNREADABLE):
        row(make, topic, value)


@pytest.mark.parametrize("changes", [{"accepted_at": ACCEPTED + timedelta(days=3650)}, {"batch_size": 2**63}])
def test_a_log_of_the_future_or_out_of_range_is_unreadable(make: Any, logged: Logged, changes: dict[str, Any]) -> None:
    with pytest.raises(UNREADABLE):
        row(make, LOGS, logged(**changes))


def test_a_call_has_its_bodies(make: Any) -> None:
    event = called(query=Raw(b'{"n":"5"}'), request_body=Raw(b'"no \\u0000 json"'), redacted=["name", "a\x00"])
    found = row(make, API_CALLS, event).values
    assert (found["query"], found["response_body"]) == ('{"n":"5"}', None)
    assert (found["request_body"], found["request_body_text"]) == (None, '"no \\u0000 json"')
    assert msgspec.json.decode(found["redacted"]) == ["name", "a�"]
    assert found["caller"] is None

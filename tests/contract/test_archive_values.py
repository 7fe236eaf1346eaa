"""Whatever a record holds, it is kept, or refused and counted, and no other record waits for it."""

import re
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from msgspec import Raw

from machine_learning_engineering.core.json_values import canonical_json
from machine_learning_engineering.events.schemas import ApiCalled, LabelReported, PredictionLogged, encode
from machine_learning_engineering.events.topics import API_CALLS, LABELS, LOGS
from monitoring.archive.database import Database
from monitoring.archive.rows import PROJECTIONS, UNREADABLE
from monitoring.archive.store import REFUSED, WRITTEN, Store
from monitoring.archive.tables import metadata
from tests.support import fuzz_corpus as corpus
from tests.support.archive import AT, CALL, OTHERS, ask, logged


@pytest.mark.parametrize(
    "changes",
    [
        {"error_message": "\x00", "error_type": "\ud800"},
        {"batch_size": 2**63},
        {"accepted_at": None},
        {"accepted_at": "no time"},
        # PostgreSQL: an entry of an index has its limit, which is no error of data there.
        {"request_id": "".join(map(chr, range(0x4E00, 0x4E00 + 9_000))), "features": "no json"},
    ],
    ids=["text", "number", "null", "time", "length"],
)
def test_whatever_a_row_holds_the_others_are_written(
    database: Database, store: Store, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """What no projection lets through: neither the process ends, nor does it wait for a database that is there."""
    bad = logged("bad")._replace(position="3:17")
    results = store.write([logged("a"), bad._replace(values=bad.values | changes), logged("b")])
    assert results[LOGS, WRITTEN] + results[LOGS, REFUSED] == 3
    assert {("a",), ("b",)} <= set(ask(database, "SELECT request_id FROM predictions"))
    if results[LOGS, REFUSED]:
        assert "3:17" in caplog.text
        assert "no time" not in caplog.text


VALUES = [
    b'"\\u0000"',
    b'"\\ud800"',
    b'{"\\udfff\\ud800": "\\ud800x"}',
    b"123456789012345678901234567890",
    b"-1e308",
    b"1e-400",
    b"1e400",
    b"[" * 400 + b"]" * 400,
    "\U0010ffff\x7f\x85\u2028".join('""').encode(),
    b'"' + b"x" * 50_000 + b'"',
    b"NaN",
    b"Infinity",
    b'"\\u0000',
]


@pytest.mark.parametrize("sent", VALUES, ids=[value[:12].decode() for value in VALUES])
def test_every_value_is_kept_or_its_record_is_none(database: Database, store: Store, sent: bytes) -> None:
    """As features, prediction, label and bodies: what a client may send, and what only a foreign producer may."""
    plain = encode(PredictionLogged("r1", "diamonds", "completed", *OTHERS, prediction=Raw(b"777.25")))
    written = Counter[str]()
    for topic, value in (
        (LOGS, plain.replace(b"777.25", sent)),
        (LOGS, plain.replace(b'"r1"', b'"r2"').replace(b'{"carat":1}', sent)),
        (LABELS, encode(LabelReported("r1", "diamonds", Raw(sent), AT))),
        (API_CALLS, encode(ApiCalled(call_id="c1", **CALL, request_body=Raw(sent), response_body=Raw(sent)))),
    ):
        stamp = (2, int((AT + timedelta(hours=1)).timestamp() * 1000))
        try:
            row = PROJECTIONS[topic].row(corpus.message(topic, value, timestamp=stamp))
        except UNREADABLE:
            continue
        results = store.write([row])
        assert results == {(topic, WRITTEN): 1}, "no database refuses what a projection lets through"
        written[topic] += 1
    for table, columns in (
        ("predictions", ("features", "prediction")),
        ("labels", ("label",)),
        ("api_calls", ("request_body", "response_body")),
    ):
        for column in columns:
            # Readable for every query over the column, and one of the two columns has it.
            ask(database, f"SELECT {column} ->> 'a' FROM {table}")
            empty = f"SELECT COUNT(*) FROM {table} WHERE {column} IS NULL AND {column}_text IS NULL"
            assert ask(database, empty) == [(0,)]
    if msgspec_reads(sent):
        assert written == {LOGS: 2, LABELS: 1, API_CALLS: 1}


def msgspec_reads(sent: bytes) -> bool:
    return canonical_json(sent) is not None


@pytest.mark.parametrize(
    "moment",
    ["9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00", "0001-01-01T00:00:00Z"],
)
def test_extreme_times_are_kept_or_their_record_is_none(database: Database, store: Store, moment: str) -> None:
    plain = encode(PredictionLogged("r1", "diamonds", "completed", *OTHERS))
    for name in ("requested_at", "accepted_at", "completed_at"):
        value = re.sub(rb'("%s":)"[^"]*"' % name.encode(), rb'\1"%s"' % moment.encode(), plain)
        try:
            row = PROJECTIONS[LOGS].row(corpus.message(LOGS, value))
        except UNREADABLE:
            continue
        assert store.write([row._replace(key=(name,), values=row.values | {"request_id": name})]) == {
            (LOGS, WRITTEN): 1
        }
    with database.reading() as connection:
        assert all(len(row) for row in connection.execute(metadata.tables["predictions"].select()))

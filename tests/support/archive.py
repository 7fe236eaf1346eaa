"""Rows of the archive for tests."""

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Raw
from sqlalchemy import text

from machine_learning_engineering.events.schemas import ApiCalled, Error, LabelReported, PredictionLogged, encode
from machine_learning_engineering.events.topics import API_CALLS, LABELS
from monitoring.archive.database import Database
from monitoring.archive.rows import PROJECTIONS, Row, prediction_row
from tests.support import fuzz_corpus as corpus

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
OTHERS = Raw(b'{"carat":1}'), AT, AT, AT, 0.0, 0.1, 0.2, 1, 0, 1, "v1"
CALL: dict[str, Any] = {"method": "POST", "route": "/v1/models", "status": 200, "seconds": 0.01}
CALL |= {"started_at": AT, "request_bytes": 10, "response_bytes": 20}


def ask(database: Database, query: str) -> list[tuple[Any, ...]]:
    with database.reading() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def logged(request_id: str, price: float | None = 1.0, **changes: Any) -> Row:
    """The row of a request; it failed if there is no price."""
    outcome: dict[str, Any] = {"outcome": "completed", "prediction": Raw(b'{"price":%f}' % (price or 0))}
    if price is None:
        outcome = {"outcome": "failed", "error": Error("prediction_error", "no")}
    given: dict[str, Any] = {"features": Raw(b'{"carat": 0.230, "cut": "Ideal"}'), "accepted_at": AT}
    given |= {"requested_at": AT, "completed_at": AT, "queue_seconds": 0.0, "score_seconds": 0.1, "total_seconds": 0.2}
    given |= {"batch_size": 1, "partition": 0, "offset": 1, "model_version": "v1"}
    return prediction_row(PredictionLogged(request_id=request_id, model="diamonds", **given | outcome | changes))


def label(value: bytes, seconds: int, reported: int = 0, request_id: str = "r1", model: str = "diamonds") -> Row:
    event = LabelReported(request_id, model, Raw(value), AT + timedelta(seconds=seconds))
    milliseconds = int((AT + timedelta(hours=1, seconds=reported)).timestamp() * 1000)
    return PROJECTIONS[LABELS].row(corpus.message(LABELS, encode(event), timestamp=(2, milliseconds)))


def call(call_id: str, **changes: Any) -> Row:
    event = ApiCalled(call_id=call_id, **CALL | changes)
    return PROJECTIONS[API_CALLS].row(corpus.message(API_CALLS, encode(event)))

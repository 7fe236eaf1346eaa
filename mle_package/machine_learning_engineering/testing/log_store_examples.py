"""Records to judge a prediction log with, and how they are compared."""

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from machine_learning_engineering.prediction_log.store import PredictionRecord

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def example(request_id: str, model: str, *, at: datetime = START, **changes: Any) -> PredictionRecord:
    """A completed prediction, with `changes` to its fields."""
    given: dict[str, Any] = {
        "request_id": request_id,
        "model": model,
        "model_version": "v1",
        "outcome": "completed",
        "features": Raw(b'{"number":1.0}'),
        "created_at": at,
        "score_seconds": 0.25,
        "batch_size": 1,
        "prediction": Raw(b'{"double":2.0}'),
    }
    return PredictionRecord(**(given | changes))


def failed(request_id: str, model: str, **changes: Any) -> PredictionRecord:
    """A failed one; `error` is among the changes."""
    return example(request_id, model, outcome="failed", prediction=UNSET, **changes)


def fresh() -> str:
    """A name that no log has seen, for a model and as the start of request ids."""
    return f"law-{uuid.uuid4().hex[:12]}"


def ids(records: Iterable[PredictionRecord]) -> list[str]:
    """The request ids, in order."""
    return [record.request_id for record in records]


def plain(records: Iterable[PredictionRecord]) -> list[Any]:
    """As JSON values: a log may spell them differently."""
    return [msgspec.json.decode(msgspec.json.encode(record)) for record in records]


def differs(what: str, found: Any, expected: Any) -> str | None:
    """None if they are equal, else what was found in place of what."""
    return None if found == expected else f"{what}: {found!r:.2000} instead of {expected!r:.2000}"

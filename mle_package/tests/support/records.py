"""A record of the log of predictions."""

from datetime import UTC, datetime, timedelta

from msgspec import Raw

from machine_learning_engineering.prediction_log.store import PredictionRecord

START = datetime(2026, 1, 1, tzinfo=UTC)


def record(request_id="r1", *, model="doubler", version="v1", minute=0, features=b'{"number":1}', **changes):
    given = {
        "request_id": request_id,
        "model": model,
        "model_version": version,
        "outcome": "completed",
        "features": Raw(features),
        "created_at": START + timedelta(minutes=minute),
        "score_seconds": 0.25,
        "batch_size": 1,
        "prediction": Raw(b'{"double":2.0}'),
    }
    return PredictionRecord(**(given | changes))

"""A record of a prediction log as the event that a worker would have logged."""

from datetime import timedelta

from msgspec import UNSET

from machine_learning_engineering.core.timestamps import aware
from machine_learning_engineering.events.schemas import PredictionLogged
from machine_learning_engineering.prediction_log.store import PredictionRecord


def logged_event(record: PredictionRecord) -> PredictionLogged:
    """The event of a record that did not come from a topic: it waited for nobody, and has no partition and no offset.

    Raises:
        ValueError: its time is naive.
    """
    at = aware(record.created_at)
    return PredictionLogged(
        request_id=record.request_id,
        model=record.model,
        outcome=record.outcome,
        features=record.features,
        requested_at=at,
        accepted_at=at,
        completed_at=at + timedelta(seconds=record.score_seconds),
        queue_seconds=0.0,
        score_seconds=record.score_seconds,
        total_seconds=record.score_seconds,
        batch_size=record.batch_size,
        partition=-1,
        offset=-1,
        model_version=record.model_version or UNSET,
        prediction=record.prediction,
        error=record.error,
        redacted=record.redacted,
    )

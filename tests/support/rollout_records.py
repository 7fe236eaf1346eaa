"""Records of a rollout as workers and senders of labels write them, and losses without models."""

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

from msgspec import UNSET, Raw, structs

from machine_learning_engineering.events.schemas import (
    Error,
    LabelReported,
    PredictionLogged,
    PredictionShadowed,
    RolloutArm,
    encode,
)
from machine_learning_engineering.rollout.policy import RolloutPolicy
from machine_learning_engineering.rollout.record import Rollout

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = RolloutPolicy(warm_up_requests=0)
SHADOW = Rollout(
    rollout_id="r-1",
    model="diamonds",
    champion="v1",
    challenger="v2",
    salt="pepper",
    stage="shadow",
    percent=0,
    policy=POLICY,
    started_at=BEGAN,
    stage_at=BEGAN,
)
CANARY = structs.replace(SHADOW, stage="canary", percent=5)
BAKE = structs.replace(SHADOW, stage="bake", percent=100)


class NumberLosses:
    """Predictions are ``{"price": NUMBER}``, labels numbers; negative prices are none."""

    def loss(self, model: str, version: str, prediction: bytes, label: bytes) -> float | None:
        truth = json.loads(label)
        return abs(json.loads(prediction)["price"] - truth) if isinstance(truth, int | float) else None

    def is_valid(self, model: str, version: str, prediction: bytes) -> bool:
        price = json.loads(prediction)["price"]
        return isinstance(price, int | float) and price >= 0


def price(value: float | None) -> Raw:
    return Raw(json.dumps({"price": value}).encode())


def logged(
    rollout: Rollout, number: int, arm: str = "champion", answer: float | None = 1.0, error: str = "", **changes: Any
) -> PredictionLogged:
    """The log record of request `number`, which is accepted `number` seconds after the stage began."""
    at = rollout.stage_at + timedelta(seconds=number)
    event = PredictionLogged(
        request_id=f"q-{number}",
        model=rollout.model,
        outcome="failed" if error else "completed",
        features=Raw(b'{"carat":1.0}'),
        requested_at=at,
        accepted_at=at,
        completed_at=at + timedelta(milliseconds=5),
        queue_seconds=0.001,
        score_seconds=0.004,
        total_seconds=0.005,
        batch_size=1,
        partition=0,
        offset=number,
        model_version=rollout.champion if arm == "champion" else rollout.challenger,
        prediction=UNSET if error else price(answer),
        error=Error(error, "why") if error else UNSET,  # type: ignore[arg-type]
        rollout=RolloutArm(
            rollout.rollout_id,
            arm,  # type: ignore[arg-type]
            rollout.champion,
            rollout.challenger,
            rollout.salt,
            rollout.percent,
        ),
    )
    return structs.replace(event, **changes)


def shadowed(rollout: Rollout, number: int, served: float, shadow: float, **changes: Any) -> PredictionShadowed:
    """The shadow's record of request `number`."""
    at = rollout.stage_at + timedelta(seconds=number)
    in_bake = rollout.stage == "bake"
    event = PredictionShadowed(
        request_id=f"q-{number}",
        model=rollout.model,
        rollout_id=rollout.rollout_id,
        role="champion" if in_bake else "challenger",
        served_version=rollout.challenger if in_bake else rollout.champion,
        shadow_version=rollout.champion if in_bake else rollout.challenger,
        outcome="completed",
        accepted_at=at,
        completed_at=at + timedelta(milliseconds=5),
        partition=0,
        offset=number,
        served_seconds=0.004,
        shadow_seconds=0.008,
        prediction=price(served),
        shadow_prediction=price(shadow),
        memory_bytes=1_000_000 + number,
    )
    return structs.replace(event, **changes)


def label(rollout: Rollout, number: int, truth: Any, after: float = 60.0, **changes: Any) -> LabelReported:
    """The label of request `number`, observed `after` seconds behind it."""
    at = rollout.stage_at + timedelta(seconds=number + after)
    event = LabelReported(f"q-{number}", rollout.model, Raw(json.dumps(truth).encode()), at)
    return structs.replace(event, **changes)


def label_record(event: LabelReported, written_at: datetime | None = None) -> Any:
    """The record of a label, as a broker with its own clock hands it out."""
    at = int((written_at or event.observed_at).timestamp() * 1_000)
    value = encode(event)
    return SimpleNamespace(value=lambda: value, key=lambda: None, headers=lambda: None, timestamp=lambda: (2, at))

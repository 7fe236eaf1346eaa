"""Valid inputs for the fuzz harnesses, made by the product's own encoders, and a small real model."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import msgspec
import numpy as np
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message
from msgspec import Raw

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.evaluation.metrics import regression_metrics
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.rollout.policy import RolloutPolicy
from machine_learning_engineering.rollout.record import Bar, Rollout, Rollouts, Step
from machine_learning_engineering.sdk import MLEModel
from stream_app.serving.arms import Arms, roles
from tests.support.fuzzing import SECRET

NOW = datetime.now(UTC).replace(microsecond=0)
MILLISECONDS = int(NOW.timestamp() * 1000)


class HouseFeatures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    area: Annotated[float, msgspec.Meta(ge=0, le=100_000)]
    rooms: Annotated[int, msgspec.Meta(ge=0)] | None = None
    kind: Literal["flat", "house"] = "flat"
    owner: Annotated[str, msgspec.Meta(max_length=200)] | None = None
    sizes: list[int] = []


class HousePrice(msgspec.Struct, frozen=True):
    price: float
    kind: str


class Houses(MLEModel):
    """A model with a field of each kind. Its file is a few kilobytes."""

    name = "houses"
    Features = HouseFeatures
    Prediction = HousePrice
    Label = Annotated[float, msgspec.Meta(ge=0)]
    label_name = "price"
    primary_metric = "r2"

    @classmethod
    def examples(cls, data_dir: Path | None = None) -> Iterator[Example]:
        return (Example({"area": float(area), "rooms": area % 5}, 3.0 * area) for area in range(30))

    def new_estimator(self, seed: int) -> Any:
        from sklearn.linear_model import LinearRegression

        return LinearRegression()

    def build_inputs(self, rows: Sequence[HouseFeatures]) -> Any:
        # As authors write it: an integer beyond 64 bits raises here.
        table = [[row.area, row.rooms or 0, row.kind == "flat", sum(row.sizes)] for row in rows]
        return np.array(table, dtype=np.float64).reshape(len(rows), 4)

    def predict(self, rows: Sequence[HouseFeatures]) -> Sequence[HousePrice]:
        prices = self.estimator.predict(self.build_inputs(rows)).tolist() if rows else []
        return [HousePrice(price, row.kind) for price, row in zip(prices, rows, strict=True)]

    def evaluate(self, predictions: Sequence[HousePrice], labels: Sequence[float]) -> Mapping[str, float]:
        return regression_metrics([one.price for one in predictions], labels)


@lru_cache(maxsize=1)
def fitted() -> Houses:
    model = Houses()
    examples = list(Houses.examples())
    rows = [model.decode(msgspec.json.encode(example.features)) for example in examples]
    model.fit(rows, [example.label for example in examples], seed=1)
    model.version = "v1"
    return model


FEATURES = (
    {"area": 70.5, "rooms": 3, "kind": "flat", "owner": SECRET, "sizes": [1, 2]},
    {"area": 12, "rooms": None, "kind": "house"},
)


def request(number: int = 0, **fields: Any) -> bytes:
    features = Raw(msgspec.json.encode(FEATURES[number % 2]))
    return events.encode(events.PredictionRequested(f"r-{number:08d}", "houses", features, NOW, **fields))


REQUESTS = (
    request(0),
    request(1),
    b'{"request_id": "r-2", "model": "other", "features": {"area": 1}}',
    b'{"type":"prediction.requested.v1","request_id":"r-3","model":"houses","features":{"area":"'
    + SECRET.encode()
    + b'"}}',
)


def logged(number: int = 0, **fields: Any) -> events.PredictionLogged:
    known: dict[str, Any] = {
        "request_id": f"r-{number:08d}",
        "model": "houses",
        "outcome": "completed",
        "features": Raw(msgspec.json.encode(FEATURES[number % 2])),
        "requested_at": NOW,
        "accepted_at": NOW,
        "completed_at": NOW,
        "queue_seconds": 0.001,
        "score_seconds": 0.002,
        "total_seconds": 0.0035,
        "batch_size": 7,
        "partition": 2,
        "offset": 40,
        "model_version": "v1",
        "prediction": Raw(b'{"price": 326.5, "kind": "flat", "top": [["cat", 0.9]]}'),
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    }
    return events.PredictionLogged(**known | fields)


def _failed(kind: Any, **fields: Any) -> events.PredictionLogged:
    error = events.Error(kind, f"feature `area` is missing in {kind}")
    return logged(1, outcome="failed", prediction=msgspec.UNSET, error=error, **fields)


LOGS = tuple(
    events.encode(event)
    for event in (
        logged(0),
        logged(1, redacted=["owner"]),
        _failed("invalid_features", features=Raw(b'[1,2,{"a":null}]')),
        _failed("unknown_model", model_version=msgspec.UNSET),
        _failed("prediction_error"),
    )
)
RESULTS = tuple(
    events.encode(event)
    for event in (
        events.PredictionCompleted("r-0", "houses", "v1", Raw(b'{"price":3.5}'), NOW, NOW),
        events.PredictionFailed("r-1", "houses", events.Error("invalid_features", "no `area`"), NOW, NOW, "v1"),
    )
)
LABELS = tuple(
    events.encode(events.LabelReported("r-00000000", "houses", Raw(label), NOW))
    for label in (b"326.5", b'"' + SECRET.encode() + b'"', b'{"price": 3, "parts": [1, 2.0]}')
)
_DRIFT = events.FieldDrift("features.area", "feature", "ks", 0.3, 0.001, 0.01, True, 0.0, 0.1, 0.0, 0.0, "word")
MEASUREMENTS = tuple(
    events.encode(event)
    for event in (
        events.DriftMeasured("houses", "v1", "w1", NOW, NOW, "count", 500, 0.01, 0.1, [_DRIFT]),
        events.QualityMeasured(
            "houses", "v1", NOW, NOW, NOW, 90, 0.95, [events.LiveMetric("r2", 0.9, 0.8, 0.95, 0.91)]
        ),
    )
)
MODEL_EVENTS = tuple(
    events.encode(event)
    for event in (
        events.ModelPromoted("houses", "v2", NOW, "better", "v1"),
        events.DriftDetected("houses", "v1", "w1", NOW, NOW, NOW, 500, 0.01, [_DRIFT]),
        events.decode_model_event(
            Path(__file__).parents[1].joinpath("contract/golden/rollout.changed.v1.json").read_bytes()
        ),
    )
)
SHADOWS = tuple(
    events.encode(
        events.PredictionShadowed(
            request_id="r-00000000",
            model="houses",
            rollout_id="9f1c2a7b",
            role="challenger",
            served_version="v1",
            shadow_version="v2",
            outcome=outcome,
            accepted_at=NOW,
            completed_at=NOW,
            partition=2,
            offset=40,
            served_seconds=0.002,
            prediction=Raw(b'{"price":3.5}'),
            **fields,
        )
    )
    for outcome, fields in cast(
        list[tuple[Literal["completed", "failed"], dict[str, Any]]],
        [
            ("completed", {"shadow_prediction": Raw(b'{"price":4}'), "shadow_seconds": 0.1, "memory_bytes": 5}),
            ("failed", {"error": events.Error("prediction_error", "it raised")}),
        ],
    )
)
ROLLOUTS = events.encode(
    Rollouts(
        current=Rollout(
            rollout_id="9f1c2a7b",
            model="houses",
            champion="v1",
            challenger="v2",
            salt="5f3c9a01d2e4b687",
            stage="canary",
            percent=25,
            policy=RolloutPolicy(),
            started_at=NOW,
            stage_at=NOW,
            steps=(Step(number=1, action="started", at=NOW, by="controller", stage="shadow"),),
        ),
        barred={"v0": Bar(NOW, "controller", "it raised")},
        revision=3,
    )
)

API_CALLS = tuple(
    events.encode(
        events.ApiCalled(
            call_id=f"c-{number}",
            method="POST",
            route="/v1/models/{model}/predictions",
            status=status,
            started_at=NOW,
            seconds=0.01,
            request_bytes=20,
            response_bytes=30,
            caller="shop",
            model="houses",
            request_id="r-00000000",
            rows=1,
            request_body=Raw(body),
            response_body=Raw(b'{"price":3.5}'),
            redacted=["owner"],
        )
    )
    for number, (status, body) in enumerate(
        ((200, b'{"features":{"area":70.5,"owner":"hash-1"}}'), (422, b'"' + SECRET.encode() + b'"'))
    )
)


def message(
    topic: str,
    value: bytes | None,
    key: bytes | None = None,
    *,
    headers: Any = None,
    timestamp: tuple[int, int] = (TIMESTAMP_LOG_APPEND_TIME, MILLISECONDS),
    offset: int = 0,
) -> Message:
    """A record as the Kafka client hands it over."""
    return Message(
        topic=topic, partition=0, offset=offset, key=key, value=value, headers=headers or None, timestamp=timestamp
    )


def arms(key: str) -> Arms:
    """The arms of a canary that is split by a field."""
    current = msgspec.json.decode(ROLLOUTS, type=Rollouts).current
    assert current is not None
    given = msgspec.structs.replace(current, policy=RolloutPolicy(key=key))
    found = roles(given, "v1")
    assert found is not None
    return Arms(given, found, {"v1": fitted(), "v2": fitted()}, {})

"""Log events and records to test with."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec import Raw

from machine_learning_engineering.events.schemas import PredictionLogged, encode

ACCEPTED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Record:
    """A Kafka record, as far as it is read here."""

    def __init__(
        self,
        value: bytes | None,
        offset: int = 0,
        partition: int = 0,
        topic: str = "prediction-logs",
        headers: list[tuple[str, bytes]] | None = None,
        milliseconds: int = 1_772_366_400_000,
    ) -> None:
        self._value, self._offset, self._partition = value, offset, partition
        self._topic, self._headers, self._milliseconds = topic, headers, milliseconds

    def value(self) -> bytes | None:
        return self._value

    def key(self) -> bytes | None:
        return None

    def offset(self) -> int:
        return self._offset

    def partition(self) -> int:
        return self._partition

    def topic(self) -> str:
        return self._topic

    def headers(self) -> list[tuple[str, bytes]] | None:
        return self._headers

    def timestamp(self) -> tuple[int, int]:
        return 1, self._milliseconds

    def __len__(self) -> int:
        return len(self._value or b"")


@pytest.fixture
def logged() -> Callable[..., PredictionLogged]:
    """`logged(**fields)`: a log event, completed unless it is told otherwise."""

    def make(**fields: Any) -> PredictionLogged:
        features = fields.pop("features", b'{"carat": 0.23, "cut": "Ideal"}')
        given = {
            "request_id": "r1",
            "model": "diamonds",
            "outcome": "failed" if "error" in fields else "completed",
            "features": Raw(features),
            "requested_at": ACCEPTED,
            "accepted_at": ACCEPTED,
            "completed_at": ACCEPTED,
            "queue_seconds": 0.001,
            "score_seconds": 0.002,
            "total_seconds": 0.0035,
            "batch_size": 7,
            "partition": 2,
            "offset": 40,
            "model_version": "3",
        }
        if "error" not in fields:
            given["prediction"] = Raw(b'{"price": 326.5}')
        return PredictionLogged(**{**given, **fields})

    return make


@pytest.fixture
def record(logged: Callable[..., PredictionLogged]) -> Callable[..., Record]:
    """`record(offset, **fields)`: the record of a log event; `record(offset, value=b"...")`: of any bytes."""

    def make(offset: int = 0, value: bytes | None = None, **fields: Any) -> Record:
        return Record(encode(logged(**fields)) if value is None else value, offset)

    return make


@pytest.fixture
def make() -> type[Record]:
    """`make(value, offset=0, topic=..., headers=...)`: a record of any topic."""
    return Record

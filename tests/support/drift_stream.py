"""A stream of log records for windows of six rows, and the profile that they are compared with."""

from datetime import timedelta
from typing import Any

import msgspec
from msgspec import Raw

from machine_learning_engineering.drift.binning import reference_profile
from machine_learning_engineering.events.schemas import PredictionLogged, encode
from machine_learning_engineering.registry.profiles import Reference
from monitoring.drift.batch import read_batch
from monitoring.drift.windows import ClosedWindow, Limits, State, Windows
from tests.unit.monitoring.conftest import ACCEPTED, Record

HOUR = timedelta(hours=1)
FULL_AT_SIX = Limits(rows=6, period=HOUR, min_rows=2, rows_per_second=1e6)


class Stone(msgspec.Struct, frozen=True):
    carat: float
    cut: str = "Ideal"


class Model:
    Features = Stone


ROWS = [{"carat": number / 10, "cut": ("Ideal", "Fair")[number % 2]} for number in range(100)]
PROFILE = reference_profile(Model, ROWS, [{"price": float(number)} for number in range(100)])  # type: ignore[arg-type]


class Known:
    """ProfileCache of the versions 1 and 2 of any model."""

    def __init__(self, digest: str = "d") -> None:
        self.digest = digest

    def get(self, model: str, version: str) -> Reference | None:
        return Reference(PROFILE, self.digest) if version in ("1", "2") else None


def row(number: int, *, seconds: float = 0, version: str = "1", model: str = "m", **fields: Any) -> bytes:
    """A log record; every number has a carat of its own."""
    given: dict[str, Any] = {
        "request_id": f"r{number}",
        "model": model,
        "outcome": "completed",
        "features": Raw(msgspec.json.encode({"carat": number / 10})),
        "prediction": Raw(b'{"price": 5.0}'),
        "requested_at": ACCEPTED,
        "accepted_at": ACCEPTED + timedelta(seconds=seconds),
        "completed_at": ACCEPTED,
        "queue_seconds": 0.0,
        "score_seconds": 0.0,
        "total_seconds": 0.0,
        "batch_size": 1,
        "partition": 0,
        "offset": 0,
        "model_version": version,
    }
    return encode(PredictionLogged(**{**given, **fields}))


def numbered(values: list[bytes], first: int = 0, partition: int = 0) -> list[Any]:
    return [Record(value, first + index, partition) for index, value in enumerate(values)]


def add(windows: Windows, values: list[bytes], first: int = 0, partition: int = 0) -> list[ClosedWindow]:
    return windows.add(read_batch(numbered(values, first, partition)))


def successor(windows: Windows, *partitions: int) -> Windows:
    """What another process makes of the states, after they were on a topic."""
    found = Windows(Known(), FULL_AT_SIX)
    for partition in partitions:
        found.restore(partition, msgspec.json.decode(msgspec.json.encode(windows.state(partition)), type=State))
    return found

"""The model alone, in this process: rows a second by the size of a batch. What no transport can beat."""

import os
import time
from collections.abc import Callable

import msgspec

from benchmarks.deployment import Deployment
from machine_learning_engineering.threads import cap_numeric_threads
from model.diamonds import Diamonds

BATCHES = (1, 32, 1_024)
SECONDS = 1.0


class Scoring(msgspec.Struct, frozen=True):
    """Rows a second of `predict` alone and of decoding JSON and then predicting, in batches of `batch` rows."""

    batch: int
    predicted: float
    decoded_and_predicted: float


def measure(deployment: Deployment, seconds: float = SECONDS) -> list[Scoring]:
    """Each size of batch for about `seconds`."""
    cap_numeric_threads()
    before = os.sched_getaffinity(0) if deployment.cores.case is not None else None
    if deployment.cores.case is not None:
        os.sched_setaffinity(0, {deployment.cores.case})
    try:
        encoded = [
            msgspec.json.encode(row) for row, _ in zip(Diamonds.example_requests(), range(max(BATCHES)), strict=False)
        ]
        return [_measure(deployment.model, encoded[:size], seconds) for size in BATCHES]
    finally:
        if before is not None:
            os.sched_setaffinity(0, before)


def _measure(model: Diamonds, encoded: list[bytes], seconds: float) -> Scoring:
    rows = [model.decode(raw) for raw in encoded]
    return Scoring(
        batch=len(rows),
        predicted=_rate(lambda: model.predict(rows), len(rows), seconds),
        decoded_and_predicted=_rate(lambda: model.predict([model.decode(raw) for raw in encoded]), len(rows), seconds),
    )


def _rate(call: Callable[[], object], rows: int, seconds: float) -> float:
    call()
    count, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        call()
        count += rows
    return count / elapsed

"""Each model alone, in this process: rows a second by the size of a batch. What no transport can beat."""

import json
import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from benchmarks.deployment import Deployment, EvaluationError
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.threads import cap_numeric_threads
from machine_learning_engineering.sdk import MLEModel
from model.catalog import available

if TYPE_CHECKING:
    from benchmarks.frames import Predict

BATCHES = (1, 32, 1_024)
SECONDS = 1.0


class Scoring(msgspec.Struct, frozen=True):
    """Rows a second in batches of `batch` rows.

    Attributes:
        predicted: `predict` alone, on decoded rows.
        decoded_and_predicted: from the JSON of a request's features to the prediction.
        frames: the same from JSON, by the same pipeline fed with a DataFrame.
    """

    model: str
    batch: int
    predicted: float
    decoded_and_predicted: float
    frames: float


def measure(deployment: Deployment, seconds: float = SECONDS) -> list[Scoring]:
    """Each model and size of batch for at least `seconds`.

    Raises:
        EvaluationError: the two ways don't give the same predictions.
    """
    # Pandas comes with the group `bench` alone.
    from benchmarks.frames import PIPELINES

    cap_numeric_threads()
    before = os.sched_getaffinity(0) if deployment.cores.case is not None else None
    if deployment.cores.case is not None:
        os.sched_setaffinity(0, {deployment.cores.case})
    try:
        return [row for name, pipeline in PIPELINES.items() for row in _measure_model(name, pipeline, seconds)]
    finally:
        if before is not None:
            os.sched_setaffinity(0, before)


def _measure_model(
    name: str, pipeline: Callable[[MLEModel, Sequence[Example]], "Predict"], seconds: float
) -> list[Scoring]:
    model = available()[name]()
    examples = list(model.examples())
    model.fit([model.decode(msgspec.json.encode(one.features)) for one in examples], _labels(examples), seed=0)
    frames = pipeline(model, examples)
    encoded = [msgspec.json.encode(examples[number % len(examples)].features) for number in range(max(BATCHES))]
    ours = model.predict([model.decode(raw) for raw in encoded])
    theirs = frames([json.loads(raw) for raw in encoded])
    if not np.allclose([_number(prediction) for prediction in ours], theirs, rtol=1e-4):
        raise EvaluationError(f"{name}: the pipeline on DataFrames predicts something else")
    return [_measure(model, frames, encoded, size, seconds) for size in BATCHES]


def _labels(examples: Sequence[Example]) -> list[object]:
    return [example.label for example in examples]


def _number(prediction: object) -> float:
    """The price, the probability or the score."""
    values = msgspec.structs.asdict(prediction)  # type: ignore[arg-type]
    return float(next(values[name] for name in ("price", "probability", "score") if name in values))


def _measure(model: MLEModel, frames: "Predict", encoded: list[bytes], size: int, seconds: float) -> Scoring:
    batches = [encoded[start : start + size] for start in range(0, len(encoded), size)]
    decoded = [[model.decode(raw) for raw in batch] for batch in batches]
    return Scoring(
        model=model.name,
        batch=size,
        predicted=_rate(model.predict, decoded, seconds),
        decoded_and_predicted=_rate(
            lambda batch: model.predict([model.decode(raw) for raw in batch]), batches, seconds
        ),
        frames=_rate(lambda batch: frames([json.loads(raw) for raw in batch]), batches, seconds),
    )


def _rate(call: Callable[[Any], object], batches: Sequence[Sequence[Any]], seconds: float) -> float:
    """Rows a second over all batches, as often as it takes. Rows differ in how long they take: each counts as often."""
    call(batches[0])
    count, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        for batch in batches:
            call(batch)
            count += len(batch)
    return count / elapsed

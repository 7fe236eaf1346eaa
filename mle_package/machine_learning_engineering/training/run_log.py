"""The log of trainings: one JSON line for each, appended and never changed, whether it succeeded or failed.

A line ties what belongs together by ids: the run, its data layers, every model that it fitted, and the version that it
put into the registry.
"""

import warnings
from collections.abc import Iterator
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from typing import Any, Literal

import msgspec
from msgspec import Struct

from machine_learning_engineering.core import files as durable
from machine_learning_engineering.evaluation.estimates import Estimate
from machine_learning_engineering.training.layers import Layer
from machine_learning_engineering.training.records import Source

LIBRARIES = ("numpy", "scikit-learn", "skops", "pyarrow", "optuna", "xgboost-cpu")


class Trial(Struct, frozen=True):
    """One configuration that a search tried, and its score: the primary metric on the search's folds."""

    params: dict[str, Any]
    score: float


class TrainedModel(Struct, frozen=True):
    """One candidate, fitted on all rows but the held-out ones and kept in the history.

    `cross_validation` are its metrics over folds of the rows it was fitted on, `rows_per_second` the speed of `predict`
    by batch size, `trials` what its search tried, best params included.
    """

    id: str
    candidate: str
    params: dict[str, Any]
    history_version: str
    cross_validation: dict[str, Estimate]
    rows_per_second: dict[str, int]
    seconds: float
    trials: list[Trial] = []


class TrainingEntry(Struct, frozen=True, kw_only=True):
    """One training. What a failed one did not reach is empty; `error` says why it failed.

    `metrics` and `held_out` are of the chosen model on the rows that no model was fitted on; `selection` says why it
    was chosen, `reason` why its version was promoted or not. Of several entries of one run id the last counts.
    """

    run_id: str
    outcome: Literal["completed", "failed"]
    model: str
    started_at: datetime
    seconds: float
    seed: int
    libraries: dict[str, str]
    sources: list[Source] = []
    layers: dict[str, Layer] = {}
    training_data_sha256: str = ""
    rows_trained: int = 0
    rows_held_out: int = 0
    models: list[TrainedModel] = []
    chosen: str = ""
    selection: str = ""
    version: str = ""
    promoted: bool = False
    reason: str = ""
    metrics: dict[str, float] = {}
    held_out: dict[str, Estimate] = {}
    error: str = ""


class LogUnreadable(ValueError):
    """A line of the log is no entry; the message names it."""


def append(path: Path, entry: TrainingEntry) -> None:
    """Add a line, safely on disk when this returns. Several processes may append at once.

    Raises:
        OSError: it can't be written; then the log is as it was before.
    """
    durable.append(path, msgspec.json.encode(entry) + b"\n")


def read(path: Path) -> Iterator[TrainingEntry]:
    """All entries, oldest first; none if there is no log. A line that a crash cut off is left out, with a warning.

    Raises:
        LogUnreadable: a line is no entry.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield msgspec.json.decode(line, type=TrainingEntry)
            except msgspec.ValidationError as error:
                raise LogUnreadable(f"line {number} of {path} is no entry of a training: {error}") from error
            except (msgspec.DecodeError, UnicodeDecodeError):
                warnings.warn(f"line {number} of {path} is damaged and left out", stacklevel=2)


def libraries() -> dict[str, str]:
    """The versions of Python and of what decides a training's result; what is not installed is left out."""
    found = {"python": python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

"""Log of trainings: one JSON line for each, successful or failed, appended and never changed.

A line links the ids of the run, its data layers, the models that it fitted, and its version in the registry.
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

from machine_learning_engineering.core import files
from machine_learning_engineering.evaluation.estimates import Estimate
from machine_learning_engineering.training.layers import Layer
from machine_learning_engineering.training.records import Source

LIBRARIES = ("numpy", "scikit-learn", "skops", "pyarrow", "optuna", "xgboost-cpu")


class Trial(Struct, frozen=True):
    """One configuration of a search and its score, the mean primary metric over the search's folds."""

    params: dict[str, Any]
    score: float


class TrainedModel(Struct, frozen=True):
    """One candidate, fitted on all training rows and saved in the history.

    `cross_validation` holds its metrics over folds of the training rows, `rows_per_second` the throughput of `predict`
    by batch size, `trials` all trials of its search.
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
    """One training. Fields that a failed training did not reach are empty; `error` says why it failed.

    `metrics` and `held_out` are of the chosen model on held-out rows. `selection` says why it was chosen, `reason` why
    its version was promoted or not. Of several entries with one run id the last one is valid.
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


class RunLogUnreadable(ValueError):
    """A line of the log is not an entry. The message names it."""


def append(path: Path, entry: TrainingEntry) -> None:
    """Append a line and sync it to disk. Several processes may append at once.

    Raises:
        OSError: It can't be written; the log is unchanged.
    """
    files.append(path, msgspec.json.encode(entry) + b"\n")


def read(path: Path) -> Iterator[TrainingEntry]:
    """All entries, oldest first; none if there is no log. A line torn by a crash is skipped with a warning.

    Raises:
        RunLogUnreadable: A line is not an entry.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield msgspec.json.decode(line, type=TrainingEntry)
            except msgspec.ValidationError as error:
                raise RunLogUnreadable(f"line {number} of {path} is not an entry of a training: {error}") from error
            except (msgspec.DecodeError, UnicodeDecodeError):
                warnings.warn(f"line {number} of {path} is damaged and was skipped", stacklevel=2)


def libraries() -> dict[str, str]:
    """Versions of Python and of the installed libraries that determine the result of a training."""
    found = {"python": python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

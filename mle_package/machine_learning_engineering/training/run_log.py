"""Log of trainings: one JSON line for each, successful or failed, appended and never changed.

A line links the ids of the run, its data layers, the models that it fitted, and its version in the registry.
"""

import math
import warnings
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version
from types import NoneType
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import Struct

from machine_learning_engineering.core import files
from machine_learning_engineering.core.json_values import finite_json
from machine_learning_engineering.evaluation.estimates import Estimate
from machine_learning_engineering.storage.location import Place
from machine_learning_engineering.storage.opening import open_store
from machine_learning_engineering.training.layers import Layer
from machine_learning_engineering.training.records import Source

LIBRARIES = ("numpy", "scikit-learn", "skops", "pyarrow", "optuna", "xgboost-cpu")
_MAX_REPR = 500


class Trial(Struct, frozen=True):
    """One configuration of a search and its score, the mean primary metric over the search's folds."""

    params: dict[str, Any]
    score: float


def plain_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Params as JSON values: what has no JSON form, such as an object or NaN, becomes its (shortened) `repr`."""
    return {safe_text(str(name)): _plain(value) for name, value in params.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain_params(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if type(value) in (bool, NoneType) or (type(value) is float and math.isfinite(value)):
        return value
    if type(value) is int and value.bit_length() < 64:
        return value
    if type(value) is str:
        return safe_text(value)
    if isinstance(value, np.generic) and not isinstance(value, np.void):
        return _plain(value.item())
    try:
        return safe_text(repr(value))[:_MAX_REPR]
    except Exception:
        return f"<{type(value).__qualname__}>"


def safe_text(text: str) -> str:
    """The text without lone surrogates, which JSON in UTF-8 can't hold; a file name may have some."""
    return text.encode(errors="replace").decode()


class FailedCandidate(Struct, frozen=True):
    """A candidate that was left out of the comparison, and why."""

    candidate: str
    error: str


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
    failed_candidates: list[FailedCandidate] = []
    chosen: str = ""
    selection: str = ""
    version: str = ""
    promoted: bool = False
    reason: str = ""
    metrics: dict[str, float] = {}
    held_out: dict[str, Estimate] = {}
    error: str = ""


def append(place: Place, entry: TrainingEntry) -> None:
    """Append a line and sync it to disk. Several processes may append at once.

    Objects can't be appended to: behind a URL, each entry is a file of its own, ``<URL>/<time>-<run>.json``.

    Raises:
        OSError: It can't be written; the log is unchanged.
        ValueError: A number is not finite, and the line could not be read again; the log is unchanged.
        TypeError: A value has no JSON form; the log is unchanged.
    """
    [line] = finite_json([entry])
    if isinstance(place, Path):
        files.append(place, line + b"\n")
        return
    key = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{entry.run_id}.json"
    open_store(place).write_if_absent(key, line + b"\n")


def read(place: Place) -> Iterator[TrainingEntry]:
    """All entries, oldest first; none if there is no log.

    A line that is no entry, for example because a crash has torn it, is skipped with a warning.
    """
    for where, line in _lines(place):
        try:
            yield msgspec.json.decode(line, type=TrainingEntry)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            what = "not an entry of a training" if isinstance(error, msgspec.ValidationError) else "damaged"
            warnings.warn(f"{where} is {what} and was skipped: {error}", stacklevel=2)


def _lines(place: Place) -> Iterator[tuple[str, bytes]]:
    """Each line, and where it is."""
    if isinstance(place, Path):
        if not place.exists():
            return
        with place.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield f"line {number} of {place}", line
        return
    store = open_store(place)
    for key in sorted(found.key for found in store.files("") if "/" not in found.key):
        yield f"{place}/{key}", store.read(key)


def libraries() -> dict[str, str]:
    """Versions of Python and of the installed libraries that determine the result of a training."""
    found = {"python": python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

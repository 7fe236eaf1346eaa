"""What an estimator answers for the rows of a sample, method by method: recorded where its original object lives."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

METHODS = ("predict", "predict_proba", "decision_function", "score_samples", "transform")
ALONE_LIMIT = 100
"""Rows of the sample that are also asked for alone."""


class Recorded(Struct, frozen=True):
    """One result. `data` are the array's bytes, or a list of texts and numbers for an array of objects."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | list[Any]


class Answers:
    """Has the methods of an estimator, and returns what it has answered for its sample, or for a row of it alone."""

    def __init__(
        self, index: Sequence[Any], batch: dict[str, list[Recorded]], alone: dict[str, list[list[Recorded]]]
    ) -> None:
        self._rows = len(index)
        self._positions = {label: position for position, label in enumerate(index)}
        self._batch = batch
        self._alone = alone

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_") or name not in self._batch:
            raise AttributeError(name)

        def answer(frame: Any) -> Any:
            found = [restore(one) for one in self._recorded(name, frame)]
            return found[0] if len(found) == 1 else found

        return answer

    def _recorded(self, name: str, frame: Any) -> list[Recorded]:
        if len(frame) == self._rows:
            return self._batch[name]
        index = getattr(frame, "index", None)
        position = self._positions.get(index[0]) if len(frame) == 1 and index is not None else None
        if position is None or position >= len(self._alone[name]):
            raise LookupError(f"answers were recorded for {self._rows} rows, and for {len(self._alone[name])} alone")
        return self._alone[name][position]


def record_all(estimator: Any, frame: Any) -> tuple[dict[str, list[Recorded]], dict[str, list[list[Recorded]]]]:
    """Ask an estimator for all rows of a frame at once, and for the first ones alone.

    Raises:
        ValueError: The frame does not have the estimator's columns.
    """
    from machine_learning_engineering.adoption.inputs import estimator_input
    from machine_learning_engineering.core.threads import cap_numeric_threads

    batch: dict[str, list[Recorded]] = {}
    alone: dict[str, list[list[Recorded]]] = {}
    with cap_numeric_threads():
        for method in METHODS:
            if not hasattr(estimator, method) or (method == "transform" and "predict" in batch):
                continue
            ask = getattr(estimator, method)
            try:
                batch[method] = record(ask(estimator_input(estimator, frame)))
            except AttributeError:  # A method that is offered but not there, as of a Pipeline's last step.
                continue
            rows = min(len(frame), ALONE_LIMIT)
            alone[method] = [record(ask(estimator_input(estimator, frame[row : row + 1]))) for row in range(rows)]
    return batch, alone


def record(found: Any) -> list[Recorded]:
    """The arrays of a result; several where it is a list of them, one an output."""
    if isinstance(found, list) and found and all(hasattr(one, "shape") for one in found):
        return [_record(one) for one in found]
    return [_record(found)]


def dense(found: Any) -> NDArray[Any]:
    """A result as an array: of a frame, its values; of a sparse matrix, with its zeros."""
    if hasattr(found, "toarray"):
        found = found.toarray()
    elif hasattr(found, "to_numpy"):
        found = found.to_numpy()
    return np.asarray(found)


def _record(found: Any) -> Recorded:
    array = dense(found)
    if array.dtype.hasobject or array.dtype.kind not in "biufcSU":
        return Recorded("O", array.shape, [_plain(one) for one in array.ravel().tolist()])
    return Recorded(array.dtype.str, array.shape, np.ascontiguousarray(array).tobytes())


def _plain(one: Any) -> Any:
    return one if one is None or isinstance(one, bool | int | float | str) else str(one)


def restore(one: Recorded) -> NDArray[Any]:
    """The array that was recorded."""
    if one.dtype == "O":
        flat = np.empty(len(one.data), dtype=object)
        flat[:] = one.data
        return flat.reshape(one.shape)
    if isinstance(one.data, list) or np.dtype(one.dtype).hasobject:
        raise msgspec.ValidationError("an answer is neither bytes nor a list")
    return np.frombuffer(one.data, dtype=one.dtype).reshape(one.shape)

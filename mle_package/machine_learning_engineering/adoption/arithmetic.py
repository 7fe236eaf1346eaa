"""What fitted imputers and scalers do to an array of numbers, operation by operation as scikit-learn does it."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Matrix", "NotCompiled", "operation"]

Matrix = NDArray[np.float64]


class NotCompiled(Exception):
    """There is no route without frames. The message says why."""


def operation(step: Any) -> Callable[[Matrix], Matrix]:
    """What a fitted step does to an array.

    Raises:
        NotCompiled: The step is not one of those that are arithmetic only.
    """
    make = OPERATIONS.get(type(step).__name__)
    if make is None or not type(step).__module__.startswith("sklearn."):
        raise NotCompiled(f"{type(step).__name__} is not compiled")
    return make(step)


def _imputer(step: Any) -> Callable[[Matrix], Matrix]:
    if step.add_indicator or getattr(step, "statistics_", None) is None:
        raise NotCompiled("SimpleImputer with an indicator is not compiled")
    if np.asarray(step.statistics_).dtype.kind not in "fiu":
        return lambda block: block  # Of texts, in front of an encoder: its table holds what it does.
    fills = np.asarray(step.statistics_, dtype=np.float64)
    if (
        not isinstance(step.missing_values, float)
        or step.missing_values == step.missing_values
        or np.isnan(fills).any()
    ):
        raise NotCompiled("SimpleImputer of something else than NaN, or without a value, is not compiled")
    return lambda block: np.where(np.isnan(block), fills, block)


def _standard(step: Any) -> Callable[[Matrix], Matrix]:
    mean, scale = step.mean_ if step.with_mean else None, step.scale_ if step.with_std else None
    return _centered(mean, scale)


def _centered(center: Any, scale: Any) -> Callable[[Matrix], Matrix]:
    def run(block: Matrix) -> Matrix:
        if center is not None:
            block = block - center
        return block / scale if scale is not None else block

    return run


def _min_max(step: Any) -> Callable[[Matrix], Matrix]:
    low, high = step.feature_range

    def run(block: Matrix) -> Matrix:
        block = block * step.scale_ + step.min_
        return np.clip(block, low, high) if step.clip else block

    return run


OPERATIONS: dict[str, Callable[[Any], Callable[[Matrix], Matrix]]] = {
    "MaxAbsScaler": lambda step: _centered(None, step.scale_),
    "MinMaxScaler": _min_max,
    "RobustScaler": lambda step: _centered(
        step.center_ if step.with_centering else None, step.scale_ if step.with_scaling else None
    ),
    "SimpleImputer": _imputer,
    "StandardScaler": _standard,
}

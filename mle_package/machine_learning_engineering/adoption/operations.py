"""What the functions and operators of answers compute, on arrays with one value, or one row of values, per request."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from msgspec import Struct

__all__ = [
    "ARITHMETIC", "COMPARISONS", "EXTREMES", "FUNCTIONS", "WORDS", "Ranked", "both", "choose", "column", "either",
    "index_of", "minus", "negate", "plus", "ranking", "rounded", "to_rounded_integer",
]  # fmt: skip

WORDS: Mapping[str, str] = {
    "float": "a number",
    "int": "an integer",
    "bool": "true or false",
    "text": "a text",
    "scores": "one number for each label",
    "numbers": "several numbers",
    "ranking": "a list of labels",
}
"""Kinds of answers, for messages."""
_MAX_EXACT = 2.0**53


class Ranked(Struct, frozen=True):
    """A label with its score."""

    label: bool | int | float | str
    score: float


def column(values: Any, number: int, output: str) -> Any:
    """A column of an output of shape (rows, columns).

    Raises:
        ValueError: It has no such column.
    """
    values = np.asarray(values)
    if values.ndim == 1 and output == "decision_function" and number in (1, -1):
        # Of two classes, scikit-learn gives the score of the second alone.
        return values
    if values.ndim != 2 or not -values.shape[1] <= number < values.shape[1]:
        columns = values.shape[1] if values.ndim == 2 else "no"
        raise ValueError(f"{output} has {columns} columns, so there is no column {number}")
    return values[:, number]


def index_of(label: Any, labels: Sequence[Any]) -> int:
    """The number of a label's column.

    Raises:
        ValueError: The estimator does not know the label.
    """
    for number, one in enumerate(labels):
        if one == label and isinstance(one, bool) == isinstance(label, bool):
            return number
    raise ValueError(f"the estimator does not know the label {label!r:.60}")


def ranking(scores: Any, labels: Sequence[Any], count: int) -> list[list[Ranked]]:
    """The labels with the greatest scores of each row, the greatest first; of equal ones, the first in `labels`."""
    scores = np.asarray(scores, dtype=np.float64)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    best = np.take_along_axis(scores, order, axis=1).tolist()
    return [
        [Ranked(labels[number], score) for number, score in zip(numbers, row, strict=True)]
        for numbers, row in zip(order.tolist(), best, strict=True)
    ]


def minus(value: Any) -> Any:
    """-value."""
    return np.negative(value)


def plus(value: Any) -> Any:
    """+value."""
    return np.positive(value)


def negate(value: Any) -> Any:
    """Not value."""
    return np.logical_not(value)


def both(one: Any, other: Any) -> Any:
    """One and other."""
    return np.logical_and(one, other)


def either(one: Any, other: Any) -> Any:
    """One or other."""
    return np.logical_or(one, other)


def choose(condition: Any, one: Any, other: Any) -> Any:
    """One where the condition is true, other elsewhere."""
    return np.where(condition, one, other)


def rounded(value: Any, digits: int) -> Any:
    """The value with this many decimals."""
    return np.round(value, digits)


def to_integer(value: Any) -> Any:
    """The integer part.

    Raises:
        ValueError: A number is not finite, or too large to be exact.
    """
    values = np.trunc(np.asarray(value, dtype=np.float64))
    if not (np.abs(values) <= _MAX_EXACT).all():  # NaN is not, either.
        raise ValueError("int() of a number that is not finite or above 2**53")
    return values.astype(np.int64)


def to_rounded_integer(value: Any) -> Any:
    """The nearest integer; of two, the even one."""
    return to_integer(np.round(np.asarray(value, dtype=np.float64)))


def _to_float(value: Any) -> Any:
    return np.asarray(value, dtype=np.float64)


def _to_bool(value: Any) -> Any:
    return np.asarray(value) != 0


def _to_text(value: Any) -> Any:
    values = np.asarray(value)
    found = np.array([_spelled(one) for one in values.ravel().tolist()], dtype=object)
    return found.reshape(values.shape)


def _spelled(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _exact(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Arithmetic of integers in 64 bits and of all else in floats; booleans count as 0 and 1."""

    def compute(one: Any, other: Any) -> Any:
        left, right = (np.asarray(part) for part in (one, other))
        left, right = (part.astype(np.int64) if part.dtype == bool else part for part in (left, right))
        return function(left, right)

    return compute


def _divide(one: Any, other: Any) -> Any:
    return np.true_divide(np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64))


def _whole(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def compute(one: Any, other: Any) -> Any:
        if not np.asarray(other).all():
            raise ValueError("division by zero in // or %")
        return function(one, other)

    return _exact(compute)


ARITHMETIC: Mapping[str, Callable[[Any, Any], Any]] = {
    "Add": _exact(np.add),
    "Sub": _exact(np.subtract),
    "Mult": _exact(np.multiply),
    "Div": _divide,
    "FloorDiv": _whole(np.floor_divide),
    "Mod": _whole(np.mod),
}
"""By the name of the operator's node in `ast`."""
COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "Eq": np.equal,
    "NotEq": np.not_equal,
    "Lt": np.less,
    "LtE": np.less_equal,
    "Gt": np.greater,
    "GtE": np.greater_equal,
}
EXTREMES: Mapping[str, Callable[[Any, Any], Any]] = {"max": np.maximum, "min": np.minimum}
FUNCTIONS: Mapping[str, tuple[Callable[[Any], Any], Literal["float", "int", "bool", "text"] | None]] = {
    "abs": (np.abs, None),
    "bool": (_to_bool, "bool"),
    "exp": (lambda value: np.exp(_to_float(value)), "float"),
    "float": (_to_float, "float"),
    "int": (to_integer, "int"),
    "log": (lambda value: np.log(_to_float(value)), "float"),
    "sqrt": (lambda value: np.sqrt(_to_float(value)), "float"),
    "text": (_to_text, "text"),
}
"""Functions of one value, and the kind of their result; None for the kind of the argument."""

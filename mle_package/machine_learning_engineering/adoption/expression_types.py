"""What compiled expressions are: kinds of values, where a value comes from, and what is wrong with a text."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

__all__ = ["OUTPUTS", "Answer", "InvalidExpression", "Kind", "Origin", "Scalar", "Values"]

Kind = Literal["float", "int", "bool", "text", "scores", "numbers", "ranking"]
"""Type of an answer: a scalar, a number by label, a list of numbers, or the labels with the greatest scores."""
Scalar = bool | int | float | str
OUTPUTS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "score_samples", "transform")
"""Methods of an estimator that expressions may use."""


class InvalidExpression(ValueError):
    """An expression can't be used. The message names the position, counted from 1, and the fix.

    Args:
        position: of the part that is wrong.
        problem: what is wrong, and the fix.
    """

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(f"position {position}: {problem}")
        self.position = position
        self.problem = problem


class Origin(NamedTuple):
    """What an answer is of an estimator's output: `column` is a number or a label; None for the whole output."""

    output: str
    column: Scalar | None = None


class Values(NamedTuple):
    """What expressions are computed from: arrays of outputs and of earlier fields, by name, and the labels."""

    outputs: Mapping[str, Any]
    fields: Mapping[str, Any]
    labels: Sequence[Scalar]


class Answer(NamedTuple):
    """A compiled expression."""

    kind: Kind
    compute: Callable[[Values], Any]
    """An array of shape (rows,), or of shape (rows, columns) for scores and numbers; of a ranking, a list of lists."""
    outputs: frozenset[str]
    """Outputs of the estimator that it needs."""
    origin: Origin | None
    """Set if it is an output or a column of one, rounded or not."""

"""What a law is, what it is asked about, and the words for what it sees."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.json_values import same
from machine_learning_engineering.core.model import Model

SEED = 7


@dataclass(frozen=True)
class CheckCase:
    """A fitted model, and the examples that it is judged on, in four forms of the same order.

    `refused` holds a reason for each example that the model's own schema refuses; those are left out of the others.
    """

    model: Model
    examples: Sequence[Example]
    requests: Sequence[bytes]
    rows: Sequence[Any]
    labels: Sequence[Any]
    refused: Sequence[str]

    def answers(self, rows: Sequence[Any]) -> list[Any]:
        """What the model predicts; it is given a list of its own."""
        return list(self.model.predict(list(rows)))


Check = Callable[[CheckCase], str | None]


def is_unwritten(cls: type[Model], method: str) -> bool:
    """Whether a method is still the one that raises `MethodNotImplemented`."""
    written, declared = getattr(cls, method), getattr(Model, method)
    return getattr(written, "__func__", written) is getattr(declared, "__func__", declared)


def first_difference(ones: Sequence[Any], others: Sequence[Any], what: str, tolerance: float = 0.0) -> str | None:
    """The first pair that differs. That there are as many of both is the matter of another law."""
    for one, other in zip(ones, others, strict=False):
        if not same(msgspec.to_builtins(one), msgspec.to_builtins(other), tolerance):
            return f"{what} {short(one)} and {short(other)}"
    return None


def short(value: Any) -> str:
    """A value as text, cut off where it is long."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else repr(value)
    return text if len(text) <= 200 else text[:200] + "..."

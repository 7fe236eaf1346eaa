"""A contract check, its test case, the list of checks, and helpers to describe what a check finds."""

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
    """A fitted model with its examples in four forms, in the same order.

    `rejected` holds the error for each example that the model's schema rejects; the other sequences leave those out.
    """

    model: Model
    examples: Sequence[Example]
    requests: Sequence[bytes]
    rows: Sequence[Any]
    labels: Sequence[Any]
    rejected: Sequence[str]

    def predict(self, rows: Sequence[Any]) -> list[Any]:
        """Predict a copy of the list `rows`."""
        return list(self.model.predict(list(rows)))


Check = Callable[[CheckCase], str | None]
"""Returns None, or a description of what violates the contract."""

CHECKS: list[Check] = []
"""All contract checks, in order of definition. `testing.checks` imports the modules that define them."""


def contract_check(check: Check) -> Check:
    """Decorator: append a check to `CHECKS`."""
    CHECKS.append(check)
    return check


def is_inherited(cls: type[Model], method: str) -> bool:
    """Whether a method is still the one of `Model`, which raises `MethodNotImplemented`."""
    own, base = getattr(cls, method), getattr(Model, method)
    return getattr(own, "__func__", own) is getattr(base, "__func__", base)


def first_difference(ones: Sequence[Any], others: Sequence[Any], what: str, tolerance: float = 0.0) -> str | None:
    """Describe the first pair that differs. Lengths are not compared; another check does that."""
    for one, other in zip(ones, others, strict=False):
        if not same(msgspec.to_builtins(one), msgspec.to_builtins(other), tolerance):
            return f"{what} {short(one)} and {short(other)}"
    return None


def short(value: Any) -> str:
    """Represent a value in at most 200 characters."""
    text = value.decode(errors="replace") if isinstance(value, bytes) else repr(value)
    return text if len(text) <= 200 else text[:200] + "..."

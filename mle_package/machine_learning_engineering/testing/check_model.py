"""Contract checks for models: what training, the registry and the stream rely on.

Call `check_model(MyModel)` anywhere, or run one pytest test per check::

    @parametrize_with_checks([MyModel])
    def test_my_model(model, check):
        check(model)
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.frames import examples_of
from machine_learning_engineering.core.model import MethodNotImplemented, Model
from machine_learning_engineering.core.validation import InvalidFeatures
from machine_learning_engineering.testing.case import SEED, Check, CheckCase
from machine_learning_engineering.testing.checks import CHECKS

if TYPE_CHECKING:
    import pandas

__all__ = ["CheckFailed", "check_model", "parametrize_with_checks", "prepare", "run_check"]

MAX_EXAMPLES = 200
"""Maximum number of examples that checks use, sampled at even distances."""


class CheckFailed(AssertionError):
    """A model fails a check. `check` and `model` are their names; `problem` says what the check found."""

    def __init__(self, check: str, model: str, problem: str) -> None:
        super().__init__(f"{model} fails `{check}`: {problem}")
        self.check = check
        self.model = model
        self.problem = problem


def check_model(
    model_or_class: Model | type[Model], *, examples: "Iterable[Example] | pandas.DataFrame | None" = None
) -> None:
    """Run all checks.

    Args:
        model_or_class: A class or a model, which is fitted on the examples unless it is already fitted.
        examples: Examples to check with, or a data frame of them (`core.frames.examples_of`); the model's own dataset
            by default.

    Raises:
        CheckFailed: For the first check that fails.
        MethodNotImplemented: An attribute or method is missing without which no check can run.
    """
    case = prepare(model_or_class, examples=examples)
    for check in CHECKS:
        run_check(check, case)


def run_check(check: Check, case: CheckCase) -> None:
    """Run one check.

    Raises:
        CheckFailed: The check fails, or the model raised an error.
    """
    name, model = check.__name__, type(case.model).__name__
    try:
        problem = check(case)
    except MethodNotImplemented:
        raise
    except Exception as error:
        raise CheckFailed(name, model, f"{type(error).__name__} was raised: {error}") from error
    if problem is not None:
        raise CheckFailed(name, model, problem)


def prepare(
    model_or_class: Model | type[Model], *, examples: "Iterable[Example] | pandas.DataFrame | None" = None
) -> CheckCase:
    """Fit a model if necessary, and pair it with its examples for `run_check`.

    Raises:
        CheckFailed: The model's schema accepts no example.
        MethodNotImplemented: See `check_model`.
    """
    model = model_or_class() if isinstance(model_or_class, type) else model_or_class
    requests, rows, labels, rejected, accepted = [], [], [], [], []
    found = model.examples() if examples is None else examples_of(type(model), examples)
    for example in _sample(list(found)):
        raw = msgspec.json.encode(example.features)
        try:
            row = model.decode(raw)
        except InvalidFeatures as error:
            rejected.append(str(error))
            continue
        requests.append(raw)
        rows.append(row)
        labels.append(example.label)
        accepted.append(example)
    if not rows:
        problem = f"all are rejected, such as: {rejected[0]}" if rejected else "there are no examples"
        raise CheckFailed("check_schema_accepts_examples", type(model).__name__, problem)
    if model.estimator is None:
        model.fit(list(rows), list(labels), seed=SEED)
    return CheckCase(model, accepted, requests, rows, labels, rejected)


def parametrize_with_checks(models: Sequence[Model | type[Model]]) -> Callable[[Any], Any]:
    """A pytest decorator that calls a test as `test(model, check)` for each model and each check.

    The first test of a model fits it; the others reuse it.
    """
    import pytest

    cases: dict[int, CheckCase] = {}

    def on_model(check: Check) -> Callable[[Model | type[Model]], None]:
        def run(model: Model | type[Model]) -> None:
            if id(model) not in cases:
                cases[id(model)] = prepare(model)
            run_check(check, cases[id(model)])

        return run

    parameters = [
        pytest.param(
            model,
            on_model(check),
            id=f"{(model if isinstance(model, type) else type(model)).__name__}-{check.__name__}",
        )
        for model in models
        for check in CHECKS
    ]
    return pytest.mark.parametrize(("model", "check"), parameters)


def _sample(examples: list[Example]) -> list[Example]:
    if len(examples) <= MAX_EXAMPLES:
        return examples
    return [examples[index * len(examples) // MAX_EXAMPLES] for index in range(MAX_EXAMPLES)]

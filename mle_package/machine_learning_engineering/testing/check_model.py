"""The contract kit: whether a model keeps the laws that training, the registry and the stream rely on.

Use `check_model(MyModel)` anywhere, or, with pytest, one test a law::

    @parametrize_with_checks([MyModel])
    def test_my_model(model, check):
        check(model)
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.model import MethodNotImplemented, Model
from machine_learning_engineering.core.validation import InvalidFeatures
from machine_learning_engineering.testing.case import SEED, Check, CheckCase
from machine_learning_engineering.testing.checks import CHECKS

__all__ = ["CheckFailed", "check_law", "check_model", "parametrize_with_checks", "prepare"]

ROWS = 200
"""Laws are checked on so many examples at most, taken at even distances."""


class CheckFailed(AssertionError):
    """A model breaks a law: `law` and `model` are their names, `seen` is what was seen."""

    def __init__(self, law: str, model: str, seen: str) -> None:
        super().__init__(f"{model} breaks the law `{law}`: {seen}")
        self.law = law
        self.model = model
        self.seen = seen


def check_model(model_or_class: Model | type[Model], *, examples: Iterable[Example] | None = None) -> None:
    """Check every law.

    Args:
        model_or_class: a class, or a model; it is fitted on the examples unless it is fitted already.
        examples: what the laws are checked on; the model's own dataset by default.

    Raises:
        CheckFailed: for the first law that does not hold.
        MethodNotImplemented: an attribute is missing, or a method without which no law can be checked.
    """
    subject = prepare(model_or_class, examples=examples)
    for law in CHECKS:
        check_law(law, subject)


def check_law(law: Check, subject: CheckCase) -> None:
    """Check one law.

    Raises:
        CheckFailed: it does not hold, or the model raised something while it was checked.
    """
    name, model = law.__name__, type(subject.model).__name__
    try:
        seen = law(subject)
    except MethodNotImplemented:
        raise
    except Exception as error:
        raise CheckFailed(name, model, f"{type(error).__name__} was raised: {error}") from error
    if seen is not None:
        raise CheckFailed(name, model, seen)


def prepare(model_or_class: Model | type[Model], *, examples: Iterable[Example] | None = None) -> CheckCase:
    """A fitted model with its examples, for `check_law`.

    Raises:
        CheckFailed: there is no example that the model's schema accepts.
        MethodNotImplemented: see `check_model`.
    """
    model = model_or_class() if isinstance(model_or_class, type) else model_or_class
    chosen = _evenly(list(model.examples() if examples is None else examples))
    requests, rows, labels, refused, accepted = [], [], [], [], []
    for example in chosen:
        raw = msgspec.json.encode(example.features)
        try:
            row = model.decode(raw)
        except InvalidFeatures as error:
            refused.append(str(error))
            continue
        requests.append(raw)
        rows.append(row)
        labels.append(example.label)
        accepted.append(example)
    if not rows:
        why = f"all are refused, such as: {refused[0]}" if refused else "there are no examples"
        raise CheckFailed("the_schema_accepts_the_examples", type(model).__name__, why)
    if model.estimator is None:
        model.fit(list(rows), list(labels), seed=SEED)
    return CheckCase(model, accepted, requests, rows, labels, refused)


def parametrize_with_checks(models: Sequence[Model | type[Model]]) -> Callable[[Any], Any]:
    """A pytest decorator: the test is called as `test(model, check)` for each model and each law.

    A model is fitted once, by its first test.
    """
    import pytest

    subjects: dict[int, CheckCase] = {}

    def checking(law: Check) -> Callable[[Model | type[Model]], None]:
        def check(model: Model | type[Model]) -> None:
            if id(model) not in subjects:
                subjects[id(model)] = prepare(model)
            check_law(law, subjects[id(model)])

        return check

    cases = [
        pytest.param(
            model,
            checking(law),
            id=f"{(model if isinstance(model, type) else type(model)).__name__}-{law.__name__}",
        )
        for model in models
        for law in CHECKS
    ]
    return pytest.mark.parametrize(("model", "check"), cases)


def _evenly(examples: list[Example]) -> list[Example]:
    if len(examples) <= ROWS:
        return examples
    return [examples[index * len(examples) // ROWS] for index in range(ROWS)]

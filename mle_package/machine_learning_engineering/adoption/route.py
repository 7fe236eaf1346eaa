"""The choice between the compiled route and the frame: the compiled one only where every answer is the same."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

from machine_learning_engineering.adoption.compiled import CompiledRoute, NotCompiled, compile_route
from machine_learning_engineering.adoption.frames import build_frame
from machine_learning_engineering.adoption.inputs import estimator_input
from machine_learning_engineering.adoption.opening.answers import METHODS, dense
from machine_learning_engineering.core.threads import cap_numeric_threads
from machine_learning_engineering.declaration.schema import FeatureDeclaration

__all__ = ["Route", "checked_route"]

_ALONE = 50
_PROBED = 2
ORDERS: tuple[Literal["C", "F"], ...] = ("C", "F")


class Route(NamedTuple):
    """How rows are answered."""

    compiled: CompiledRoute | None
    """None: by frames."""
    reason: str
    """In words, for a person."""


def checked_route(
    estimator: Any,
    features: Mapping[str, FeatureDeclaration],
    rows: Sequence[Mapping[str, Any]],
    methods: Sequence[str] = METHODS,
) -> Route:
    """Compile a pipeline, and compare with frames: all rows of the sample, in a batch and alone, and unusual ones.

    Args:
        estimator: A fitted estimator.
        features: The declared features.
        rows: Rows of the sample, as mappings by name.
        methods: Methods whose outputs are needed.
    """
    try:
        compiled = compile_route(estimator, features)
        differing = partial(_first_difference, estimator, compiled, features, methods)
        with cap_numeric_threads():
            for order in ORDERS:
                compiled.order = order
                difference = _difference(rows, features, differing)
                if difference is None:
                    return Route(compiled, "without frames: exact on every row of the sample")
    except NotCompiled as error:
        return Route(None, f"by frames: {error}")
    except Exception as error:  # A step of another making; the frame is there for it.
        return Route(None, f"by frames: {type(error).__name__}: {error!s:.200}")
    return Route(None, f"by frames: without, {difference}")


def _difference(
    rows: Sequence[Mapping[str, Any]],
    features: Mapping[str, FeatureDeclaration],
    differing: Callable[[Sequence[Mapping[str, Any]]], str | None],
) -> str | None:
    for batch in (rows, *([row] for row in rows[:_ALONE])):
        if (method := differing(batch)) is not None:
            return f"{method} of a row of the sample is another one"
    for row in _unusual(rows[:_PROBED], features):
        if (method := differing([row])) is not None:
            return f"{method} of an unusual row is another one"
    return None


def _first_difference(
    estimator: Any,
    compiled: CompiledRoute,
    features: Mapping[str, FeatureDeclaration],
    methods: Sequence[str],
    rows: Sequence[Mapping[str, Any]],
) -> str | None:
    for method in methods:
        if not hasattr(estimator, method):
            continue
        expected = _answer(lambda: getattr(estimator, method)(estimator_input(estimator, build_frame(rows, features))))  # noqa: B023
        found = _answer(lambda: getattr(compiled.estimator, method)(compiled.inputs(rows)))  # noqa: B023
        if expected != found:
            return method
    return None


def _answer(ask: Any) -> Any:
    """The bytes of an answer; None where the estimator refuses the row."""
    try:
        found = ask()
    except ValueError:
        return None
    parts = [dense(one) for one in (found if isinstance(found, list) else [found])]
    return [(part.shape, part.tolist() if part.dtype.hasobject else part.tobytes()) for part in parts]


def _unusual(rows: Sequence[Mapping[str, Any]], features: Mapping[str, FeatureDeclaration]) -> list[dict[str, Any]]:
    """Rows with one value that the sample may not have: a missing one, an unknown one, and extremes."""
    others: dict[str, tuple[Any, ...]] = {
        "text": ("", "no such value"),
        "float": (0.0, -1.5, 1e12),
        "int": (0, -1, 10**6),
        "bool": (True, False),
    }
    return [
        {**row, name: value}
        for row in rows
        for name, feature in features.items()
        for value in (*others[feature.type], *((None,) if feature.missing == "ok" else ()))
    ]

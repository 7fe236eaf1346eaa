"""Which columns of a fitted pipeline go through encoders, and the values that those know."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

__all__ = ["Encoded", "encoded_columns", "missing_texts"]

_KEEP_COLUMNS = (
    "SimpleImputer",
    "StandardScaler",
    "MinMaxScaler",
    "MaxAbsScaler",
    "RobustScaler",
    "PowerTransformer",
    "QuantileTransformer",
    "FunctionTransformer",
)


class Encoded(NamedTuple):
    """What an encoder knows of a column."""

    categories: tuple[Any, ...]
    """Values in the encoder's order, without missing ones."""
    refuses: bool
    """Whether another value is an error."""
    has_none: bool
    """Whether the missing value that it knows is None."""


def encoded_columns(estimator: Any, names: Sequence[str]) -> dict[str, Encoded]:
    """By name, the columns that an encoder sees, as they come or after an imputer.

    Args:
        estimator: A fitted estimator.
        names: Names of its inputs, in order.
    """
    found: dict[str, Encoded] = {}
    for positions, step in _steps(estimator, list(range(len(names)))):
        categories = getattr(step, "categories_", None)
        if categories is None or isinstance(categories, str) or len(categories) != len(positions):
            continue
        for position, values in zip(positions, categories, strict=True):
            if position is not None and names[position] not in found:
                found[names[position]] = _encoded(step, values)
    return found


def missing_texts(estimator: Any, names: Sequence[str]) -> dict[str, bool]:
    """By name, the columns whose imputer looks for None (True) or for NaN."""
    return {
        names[position]: step.missing_values is None
        for positions, step in _steps(estimator, list(range(len(names))))
        if hasattr(step, "missing_values") and hasattr(step, "statistics_")
        for position in positions
        if position is not None
    }


def _encoded(step: Any, values: Any) -> Encoded:
    found = values.tolist() if hasattr(values, "tolist") else list(values)
    handling = getattr(step, "handle_unknown", "ignore")
    if hasattr(step, "target_type"):  # A TargetEncoder answers others with the mean.
        handling = "ignore"
    present = tuple(value for value in found if not _is_missing(value))
    return Encoded(present, handling == "error", any(value is None for value in found))


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value) == "<NA>"


def _steps(estimator: Any, positions: list[int | None]) -> Iterator[tuple[list[int | None], Any]]:
    """Each step with the inputs that its columns are: their numbers, None where a column is no input any more."""
    if estimator is None or isinstance(estimator, str):
        return
    if hasattr(estimator, "steps"):
        for _, step in estimator.steps:
            yield from _steps(step, positions)
            positions = _after(step, positions)
        return
    if hasattr(estimator, "transformers_") and hasattr(estimator, "_transformer_to_input_indices"):
        indices = estimator._transformer_to_input_indices
        for name, step, _ in estimator.transformers_:
            chosen = [positions[index] if index < len(positions) else None for index in indices.get(name, ())]
            yield from _steps(step, chosen)
        return
    if hasattr(estimator, "transformer_list"):
        for _, step in estimator.transformer_list:
            yield from _steps(step, positions)
        return
    yield positions, estimator
    for inner in _inner(estimator):
        yield from _steps(inner, positions)


def _after(step: Any, positions: list[int | None]) -> list[int | None]:
    """The inputs that the columns behind a step are."""
    if step in (None, "passthrough"):
        return positions
    if type(step).__name__ in _KEEP_COLUMNS and not getattr(step, "add_indicator", False):
        kept = getattr(step, "statistics_", None)
        if kept is None or len(kept) == len(positions):
            return positions
    names = list(getattr(step, "transformers_", ()))
    if names and all(one in (None, "passthrough") for _, one, _ in names):
        indices = step._transformer_to_input_indices
        return [positions[index] for name, _, _ in names for index in indices.get(name, ())]
    return []


def _inner(estimator: Any) -> Iterator[Any]:
    for name in ("best_estimator_", "regressor_", "estimator_", "_preprocessor"):
        inner = vars(estimator).get(name)
        if inner is not None and hasattr(inner, "get_params"):
            yield inner
    several = vars(estimator).get("estimators_")
    if isinstance(several, list):
        yield from (one for one in several if hasattr(one, "steps") or hasattr(one, "transformers_"))
    for one in (vars(estimator).get("calibrated_classifiers_") or [])[:1]:
        yield one.estimator

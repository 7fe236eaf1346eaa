"""Which rows of a training set are similar: equal in some features, and the nearest in one."""

import math
from collections.abc import Mapping, Sequence
from typing import cast

from msgspec import Struct, inspect

from machine_learning_engineering.core.types import column_kinds

COUNT = "n"
"""Parameter of a request for similar rows, so no feature in the declaration may have this name."""
Key = tuple[str | int, ...]
"""Values of the features that similar rows have in common."""
_EQUAL, _NEAREST = {"string", "bool", "int64"}, {"int64", "float64"}


class Similarity(Struct, frozen=True):
    """Similar rows have equal values of the features `by`, and the nearest values of the feature `nearest`."""

    by: tuple[str, ...]
    nearest: str


def similarity(name: str, features: type[Struct], by: Sequence[str], nearest: str) -> Similarity | None:
    """The declaration of a model, `Model.similar_by` and `Model.nearest`; None if it declares neither.

    Args:
        name: of the model's class, for messages.
        features: its schema of a request.
        by: names of features, as in a request.
        nearest: name of a feature.

    Raises:
        ValueError: The features do not exist, or their types do not fit. The message names the attribute.
    """
    if not by and not nearest:
        return None
    if isinstance(by, str) or not by or not nearest:
        raise ValueError(
            f'{name} must declare both `similar_by`, a tuple such as ("cut", "color"), and `nearest`, such as "carat"'
        )
    info = inspect.type_info(features)
    assert isinstance(info, inspect.StructType)
    types = {field.encode_name: field.type for field in info.fields}
    for one, attribute, kinds, meaning in (
        *((one, "similar_by", _EQUAL, "strings, integers or booleans") for one in by),
        (nearest, "nearest", _NEAREST, "numbers"),
    ):
        if one not in types:
            raise ValueError(f"{name}.{attribute} names `{one:.100}`, and the features are {', '.join(types)}")
        if not (column_kinds(types[one]) - {"null"}) <= kinds or one == COUNT:
            raise ValueError(f"{name}.{attribute} names `{one}`: it takes features that are {meaning}, not named n")
    if len({*by, nearest}) <= len(by):
        raise ValueError(f"{name}.similar_by and {name}.nearest name a feature twice")
    return Similarity(tuple(by), nearest)


def values(features: Mapping[str, object], similarity: Similarity) -> tuple[Key, float] | None:
    """A row's values of `by` and of `nearest`; None if it lacks one, or one has another type."""
    key = tuple(features.get(name) for name in similarity.by)
    nearest = features.get(similarity.nearest)
    if isinstance(nearest, bool) or not isinstance(nearest, int | float):
        return None
    if not all(isinstance(value, str | int) for value in key):
        return None
    try:
        number = float(nearest)
    except OverflowError:
        return None
    return (cast(Key, key), number) if math.isfinite(number) else None

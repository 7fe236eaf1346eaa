"""Fitted pipelines without frames: the steps before the estimator, as lookups and arithmetic on arrays.

A frame of one row costs more than the prediction. Texts have few values, so what encoders make of each one is looked
up in a table that the fitted steps themselves have filled; imputers and scalers of numbers are one operation each. The
estimator is the pipeline's own. A route is used only where it answers exactly as the frame does: see
`route.checked_route`.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import UNSET

from machine_learning_engineering.adoption.arithmetic import Matrix, NotCompiled, operation
from machine_learning_engineering.adoption.frames import build_frame
from machine_learning_engineering.declaration.schema import FeatureDeclaration

__all__ = ["CompiledRoute", "NotCompiled", "compile_route"]

_UNKNOWN_TEXT = "\x00"
_MAX_CELLS = 2_000_000


class CompiledRoute:
    """The way from rows to what the estimator behind the steps takes.

    Args:
        estimator: Answers matrices.
        features: The declared features.
        blocks: Fill columns of the matrix.
        width: Its columns.
        after: Operations on the whole matrix.
        sparse: Whether the estimator gets a sparse matrix.
    """

    def __init__(
        self,
        estimator: Any,
        features: Mapping[str, FeatureDeclaration],
        blocks: Sequence["_Block"],
        width: int,
        after: Sequence[Callable[[Matrix], Matrix]],
        sparse: bool,
    ) -> None:
        self.estimator = estimator
        self.order: Literal["C", "F"] = "C"
        """Of the matrix in memory: BLAS's sums depend on it."""
        self._features = features
        self._fixed = [
            (number, one)
            for number, one in enumerate(features.values())
            if one.default is not UNSET or one.constant is not UNSET
        ]
        self._blocks = tuple(blocks)
        self._width = width
        self._after = tuple(after)
        self._sparse = sparse

    def inputs(self, rows: Sequence[Any]) -> Any:
        """The estimator's inputs of rows: structs with the features in order, or mappings by name.

        Raises:
            ValueError: An encoder does not know a value, and refuses it.
        """
        if rows and isinstance(rows[0], Mapping):
            columns: Any = [[row.get(name) for row in rows] for name in self._features]
        else:
            columns = list(zip(*map(msgspec.structs.astuple, rows), strict=True)) or [()] * len(self._features)
        for number, feature in self._fixed:
            value = feature.default if feature.constant is UNSET else feature.constant
            always = feature.constant is not UNSET
            columns[number] = [value if always or one is None else one for one in columns[number]]
        matrix = np.empty((len(rows), self._width), order=self.order)
        for block in self._blocks:
            block.fill(matrix, columns)
        for change in self._after:
            matrix = change(matrix)
        if self._sparse:
            from scipy.sparse import csr_matrix

            return csr_matrix(matrix)
        return matrix


class _Block:
    """Some columns of the matrix, made of some features."""

    def fill(self, matrix: Matrix, columns: Sequence[Sequence[Any]]) -> None:
        """Write the columns of all rows."""
        raise NotImplementedError


class _Numbers(_Block):
    def __init__(
        self, positions: Sequence[int], target: slice, operations: Sequence[Callable[[Matrix], Matrix]]
    ) -> None:
        self._positions, self._target, self._operations = tuple(positions), target, tuple(operations)

    def fill(self, matrix: Matrix, columns: Sequence[Sequence[Any]]) -> None:
        # None becomes NaN.
        block = np.array([columns[position] for position in self._positions], dtype=np.float64).T
        for change in self._operations:
            block = change(block)
        matrix[:, self._target] = block


class _Looked(_Block):
    def __init__(self, position: int, target: slice, codes: Mapping[Any, int], table: Matrix, unknown: int) -> None:
        self._position, self._target, self._codes, self._table, self._unknown = position, target, codes, table, unknown

    def fill(self, matrix: Matrix, columns: Sequence[Sequence[Any]]) -> None:
        find, unknown = self._codes.get, self._unknown
        found = [find(value, unknown) for value in columns[self._position]]
        if -1 in found:
            raise ValueError("an encoder of the model does not know a value, and refuses it")
        matrix[:, self._target] = self._table[found]


def compile_route(estimator: Any, features: Mapping[str, FeatureDeclaration]) -> CompiledRoute:
    """Compile the steps of a fitted pipeline.

    Raises:
        NotCompiled: A step is not one that lookups and arithmetic on arrays replace.
    """
    if hasattr(estimator, "best_estimator_"):
        return compile_route(estimator.best_estimator_, features)
    if getattr(estimator, "regressor_", None) is not None:
        inner = compile_route(estimator.regressor_, features)
        outer = copy.copy(estimator)
        outer.regressor_ = inner.estimator
        inner.estimator = _without_names(outer)
        return inner
    steps = [step for _, step in getattr(estimator, "steps", [("", estimator)])]
    *before, last = [step for step in _flat(steps) if step not in (None, "passthrough")]
    positions = list(range(len(features)))
    if before and hasattr(before[0], "transformers_"):
        columns = before.pop(0)
        blocks, width = _column_blocks(columns, features)
        sparse = bool(columns.sparse_output_)
        if sparse and before:
            raise NotCompiled(f"{type(before[0]).__name__} gets a sparse matrix")
        after = [operation(step) for step in before]
    else:
        blocks, width = _blocks(before, positions, features, slice(0, None))
        after, sparse = [], False
    return CompiledRoute(_without_names(last), features, blocks, width, after, sparse)


def _flat(steps: Sequence[Any]) -> list[Any]:
    return [one for step in steps for one in (_flat([s for _, s in step.steps]) if hasattr(step, "steps") else [step])]


def _without_names(estimator: Any) -> Any:
    """The estimator without the names of its columns, which an array does not have."""
    if getattr(estimator, "feature_names_in_", None) is None:
        return estimator
    found = copy.copy(estimator)
    vars(found).pop("feature_names_in_", None)
    return found


def _column_blocks(columns: Any, features: Mapping[str, FeatureDeclaration]) -> tuple[list[_Block], int]:
    blocks: list[_Block] = []
    width = 0
    for name, step, _ in columns.transformers_:
        positions = columns._transformer_to_input_indices.get(name, [])
        target = columns.output_indices_[name]
        if isinstance(step, str) and step == "drop":
            continue
        width = max(width, target.stop)
        if not len(positions) or target.start == target.stop:
            continue
        some, _ = _blocks(_flat([step]), list(positions), features, target)
        blocks += some
    return blocks, width


def _blocks(
    steps: Sequence[Any], positions: list[int], features: Mapping[str, FeatureDeclaration], target: slice
) -> tuple[list[_Block], int]:
    steps = [step for step in steps if step not in (None, "passthrough") and not _does_nothing(step)]
    encoder = next((step for step in steps if hasattr(step, "categories_")), None)
    if encoder is not None:
        return _looked_up(steps, encoder, positions, features, target)
    names = list(features)
    for position in positions:
        if features[names[position]].type == "text" or features[names[position]].dtype == "category":
            raise NotCompiled(f"the texts of {names[position]} do not go through an encoder")
    operations = [operation(step) for step in steps]
    return [_Numbers(positions, slice(target.start, target.start + len(positions)), operations)], len(positions)


def _looked_up(
    steps: Sequence[Any],
    encoder: Any,
    positions: list[int],
    features: Mapping[str, FeatureDeclaration],
    target: slice,
) -> tuple[list[_Block], int]:
    """Tables of what the fitted steps make of each value that their encoder knows, of a missing one, and of another."""
    for step in steps:
        if step is not encoder:
            operation(step)
    names = [list(features)[position] for position in positions]
    chosen = {name: features[name] for name in names}
    widths = _widths(encoder, len(positions))
    known = [_known(values, chosen[name]) for name, values in zip(names, encoder.categories_, strict=True)]
    base = {name: values[0] for name, values in zip(names, known, strict=True)}
    blocks: list[_Block] = []
    start = target.start
    for name, position, values, width in zip(names, positions, known, widths, strict=True):
        here = slice(start - target.start, start - target.start + width)
        lines, codes, unknown = _table(steps, chosen, base, name, values, here)
        if lines.size > _MAX_CELLS:
            raise NotCompiled(f"{name} has {len(values):,} values")
        blocks.append(_Looked(position, slice(start, start + width), codes, lines, unknown))
        start += width
    return blocks, start - target.start


def _table(
    steps: Sequence[Any],
    features: Mapping[str, FeatureDeclaration],
    base: Mapping[str, Any],
    name: str,
    values: Sequence[Any],
    here: slice,
) -> tuple[Matrix, dict[Any, int], int]:
    lines = [_transformed(steps, features, [{**base, name: value} for value in values])[:, here]]
    codes: dict[Any, int] = {value: code for code, value in enumerate(values)}
    codes[None] = unknown = -1
    other = _unknown_value(values)
    for value in (None, *((other,) if other is not None else ())):
        try:
            line = _transformed(steps, features, [{**base, name: value}])[:, here]
        except ValueError:  # The encoder refuses it.
            continue
        lines.append(line)
        code = sum(map(len, lines)) - 1
        if value is None:
            codes[None] = code
        else:
            unknown = code
    return np.concatenate(lines), codes, unknown


def _transformed(
    steps: Sequence[Any], features: Mapping[str, FeatureDeclaration], rows: Sequence[Mapping[str, Any]]
) -> Matrix:
    found: Any = build_frame(rows, features)
    for step in steps:
        found = step.transform(found)
    if hasattr(found, "toarray"):
        found = found.toarray()
    return np.asarray(found, dtype=np.float64)


def _known(values: Any, feature: FeatureDeclaration) -> list[Any]:
    found = [value.item() if hasattr(value, "item") else value for value in np.asarray(values, dtype=object).tolist()]
    kept = [value for value in found if isinstance(value, bool | int | float | str) and value == value]
    if not kept or (feature.type == "text") != isinstance(kept[0], str):
        raise NotCompiled("an encoder knows values of another type than its column")
    return [int(value) for value in kept] if feature.type == "int" else kept


def _unknown_value(values: Sequence[Any]) -> Any:
    if isinstance(values[0], str):
        return _UNKNOWN_TEXT
    if all(isinstance(value, bool) for value in values):
        return None if len(values) > 1 else not values[0]
    return max(values) + 1


def _widths(encoder: Any, columns: int) -> list[int]:
    found = getattr(encoder, "_n_features_outs", None)
    if found is not None:
        return [int(width) for width in found]
    if (
        type(encoder).__name__ in ("OrdinalEncoder", "TargetEncoder")
        and getattr(encoder, "target_type_", "") != "multiclass"
    ):
        return [1] * columns
    raise NotCompiled(f"{type(encoder).__name__} makes several columns of one")


def _does_nothing(step: Any) -> bool:
    return type(step).__name__ == "FunctionTransformer" and step.func is None and not step.validate

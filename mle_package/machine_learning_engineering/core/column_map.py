"""Which columns of a table, of pandas, Arrow or a file, are the features of a request, and the requests of its rows."""

from collections.abc import Mapping, Sequence
from datetime import date, time, timedelta
from decimal import Decimal
from difflib import get_close_matches
from math import inf
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Struct, inspect

from machine_learning_engineering.core.json_values import plain_scalar, whole_numbers
from machine_learning_engineering.core.types import column_kinds

__all__ = ["ColumnMap", "InvalidTable", "Requests", "encode_rows", "map_columns", "rows_of_columns"]

Requests = list[bytes | dict[str, Any]]
"""Features of each row as JSON text; as a mapping where a value has no JSON form, which `decode` then refuses."""

_PLAIN = frozenset((str, int, bool))


class InvalidTable(ValueError):
    """A table can't be used as rows of a model. The message names the column, and the row if it is one row's fault."""


class Place(NamedTuple):
    """Where the values of a feature are: in a column, or in a member of the objects of a column."""

    column: str
    steps: tuple[str, ...] = ()


class ColumnMap(NamedTuple):
    """Columns of a table by the feature that they hold.

    `places` has features by path; with `has_members`, ``order.amount`` is a member of the feature `order`. `missing`
    are required features without a column, `absent` optional ones, `others` the columns that are no feature, in the
    order of the table.
    """

    places: dict[str, Place]
    missing: list[str]
    absent: list[str]
    others: list[str]
    has_members: bool = False

    @property
    def columns(self) -> list[str]:
        """The columns that hold a feature."""
        return list(dict.fromkeys(place.column for place in self.places.values()))

    def require(self, model: str, table: str = "the table") -> None:
        """Refuse a table that lacks a required feature.

        Args:
            model: Name of the model, for messages.
            table: What the table is, for messages.

        Raises:
            InvalidTable: The message names the columns.
        """
        if not self.missing:
            return
        names = ", ".join(f"`{name}`" for name in self.missing)
        close = [near for name in self.missing for near in get_close_matches(name, self.others, 1)]
        hint = f": rename `{close[0]}`, if it is that" if close else ""
        raise InvalidTable(f"{table} has no column {names}, which the model `{model}` needs{hint}")

    def kept(self, wanted: Sequence[str] | None, table: str = "the table") -> list[str]:
        """The columns that a result repeats: those of `wanted`, or by default those that are no features.

        Raises:
            InvalidTable: There is no column of that name.
        """
        if wanted is None:
            return self.others
        known = [*self.columns, *self.others]
        if unknown := [name for name in wanted if name not in known]:
            raise InvalidTable(f"{table} has no column `{unknown[0]}` to keep: there are {', '.join(known)}")
        return list(dict.fromkeys(wanted))


def map_columns(features: type[Struct], columns: Sequence[str], paths: Mapping[str, str] | None = None) -> ColumnMap:
    """Find the column of each feature.

    A feature has the column of its name; or, if the model has been adopted, that of its path in the source's events,
    such as ``order.amount``, flattened or as a member of the column `order`. A feature that is an object may have one
    column, or one for each member, such as ``order.amount``.

    Args:
        features: Schema of the features.
        columns: Names of the columns.
        paths: Paths of features by name, where they are not the name.

    Raises:
        InvalidTable: Two columns have one name.
    """
    if repeated := next((name for name in columns if list(columns).count(name) > 1), None):
        raise InvalidTable(f"the table has two columns named `{repeated}`: rename or drop one")
    known = set(columns)
    places: dict[str, Place] = {}
    missing: list[str] = []
    absent: list[str] = []
    for field in msgspec.structs.fields(features):
        found = _find(field, known, (paths or {}).get(field.encode_name, field.encode_name))
        places |= found
        if not found:
            (missing if field.required else absent).append(field.encode_name)
    used = {place.column for place in places.values()}
    # An encoded name may hold a dot itself; then it has the place of a whole feature.
    whole = set(features.__struct_encode_fields__)
    members = any(name not in whole for name in places) and not any("." in name for name in whole)
    return ColumnMap(places, missing, absent, [name for name in columns if name not in used], members)


def _find(field: msgspec.structs.FieldInfo, known: set[str], path: str) -> dict[str, Place]:
    name = field.encode_name
    for column in (name, path):
        if column in known:
            return {name: Place(column)}
    steps = path.split(".")
    for length in range(len(steps) - 1, 0, -1):
        if (column := ".".join(steps[:length])) in known:
            return {name: Place(column, tuple(steps[length:]))}
    if "json" in column_kinds(inspect.type_info(field.type)):
        return {column: Place(column) for column in sorted(known) if column.startswith(f"{name}.")}
    return {}


def refuse_others(found: ColumnMap, model: str, features: type[Struct], allowed: Sequence[str]) -> None:
    """Refuse a table with a column that may be a misspelt feature.

    Args:
        found: Columns of the table.
        model: Name of the model, for messages.
        features: Schema of the features. One that ignores unknown fields ignores unknown columns.
        allowed: Columns that may be there besides features.

    Raises:
        InvalidTable: The message names the column.
    """
    others = [name for name in found.others if name not in allowed]
    if others and features.__struct_config__.forbid_unknown_fields:
        known = ", ".join(features.__struct_encode_fields__)
        raise InvalidTable(
            f"column `{others[0]}` is no feature of the model `{model}`, which takes {known}: "
            f"rename it, or leave it out with frame.drop(columns={others!r})"
        )


def rows_of_columns(
    features: type[Struct], found: ColumnMap, columns: Mapping[str, Sequence[Any]], count: int
) -> list[dict[str, Any]]:
    """Features of each row as JSON values.

    None, NaN, NaT and pandas' NA are missing: the feature is null if it is required and may be, and else left out, so
    that it has its default or is refused by name. Where an integer is wanted, 3.0 is 3. Dates and times are text in
    ISO 8601, decimals are numbers.

    Args:
        features: Schema of the features.
        found: Their columns.
        columns: Python or NumPy values of each column, all of one length.
        count: Number of rows.
    """
    if not found.places:
        return [{} for _ in range(count)]
    fields = {field.encode_name: field for field in msgspec.structs.fields(features)}
    names = list(found.places)
    cells, gaps = [], False
    for name, place in found.places.items():
        values = [_member(value, place.steps) for value in columns[place.column]] if place.steps else None
        plain = _plain_column(columns[place.column] if values is None else values, fields.get(name))
        gaps = gaps or UNSET in plain
        cells.append(plain)
    rows = [dict(zip(names, one, strict=True)) for one in zip(*cells, strict=True)]
    if gaps:
        rows = [{name: value for name, value in row.items() if value is not UNSET} for row in rows]
    if found.has_members:
        rows = [nested(row) for row in rows]
    return rows


def encode_rows(rows: Sequence[dict[str, Any]]) -> Requests:
    """Encode rows as JSON; one with an infinity, or a value without a JSON form, stays a mapping."""
    encoded: Requests = []
    for row in rows:
        try:
            text = _encode(row)
        except (TypeError, ValueError, OverflowError, RecursionError):
            encoded.append(row)
            continue
        # The encoder writes infinities as null.
        encoded.append(row if b"null" in text and not_finite(row) else text)
    return encoded


_encode = msgspec.json.Encoder(enc_hook=plain_scalar).encode


def not_finite(row: Mapping[str, Any]) -> str | None:
    """Name of the first value of a row that is or holds an infinity."""
    return next((name for name, value in row.items() if _infinite(value)), None)


def _infinite(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_infinite, value))
    if isinstance(value, dict):
        return any(map(_infinite, value.values()))
    return isinstance(value, float) and value in (inf, -inf)


def _member(value: Any, steps: Sequence[str]) -> Any:
    for step in steps:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _plain_column(values: Sequence[Any], field: msgspec.structs.FieldInfo | None) -> list[Any]:
    """JSON values of a column; UNSET for what is missing, unless the field wants null."""
    kinds = set() if field is None else column_kinds(inspect.type_info(field.type))
    types = set(map(type, values))
    if types == {float}:
        plain = [None if value != value else value for value in values]
    else:
        plain = list(values) if types <= _PLAIN else [plain_cell(value) for value in values]
    if kinds - {"null"} == {"int64"} and float in types | set(map(type, plain)):
        plain = [whole_numbers(value) for value in plain]
    if None in plain and not (field is not None and field.required and "null" in kinds):
        plain = [UNSET if value is None else value for value in plain]
    return plain


def plain_cell(value: Any) -> Any:
    """The JSON value of a cell; None if it is missing: NaN, NaT, or pandas' NA.

    Values without a JSON form are returned as they are; encoding them fails.
    """
    kind = type(value)
    if kind in _PLAIN or value is None:
        return value
    if kind is float:
        return None if value != value else value
    if kind.__module__.startswith("pandas") and kind.__name__ in ("NAType", "NaTType"):
        return None
    if kind.__module__ == "numpy":
        return _of_numpy(value)
    if isinstance(value, list | tuple):
        return [plain_cell(item) for item in value]
    if isinstance(value, dict):
        return {str(name): plain_cell(item) for name, item in value.items()}
    if isinstance(value, Decimal):
        if not value.is_finite():
            return None if value.is_nan() else float(value)
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return msgspec.to_builtins(timedelta(value.days, value.seconds, value.microseconds))
    return _of_bytes(value) if isinstance(value, bytes) else value


def _of_numpy(value: Any) -> Any:
    if getattr(value, "dtype", None) is not None and value.dtype.kind == "M":
        if value.shape == ():
            return None if value != value else str(value)
        return [plain_cell(item) for item in value]
    return plain_cell(value.tolist())


class _NotText:
    """Bytes that are no UTF-8, which have no JSON form: the encoder would write any bytes as base64."""

    __qualname__ = "bytes"


def _of_bytes(value: bytes) -> Any:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return _NotText()


def nested(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row whose members ``order.amount`` are in an object `order`."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        *outer, last = name.split(".")
        inner = found
        for step in outer:
            inner = inner.setdefault(step, {})
        inner[last] = value
    return found

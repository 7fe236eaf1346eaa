"""Frames of decoded rows: the types depend on the declaration alone, so a row alone is the row of the batch."""

import msgspec
import numpy as np
import pytest

from machine_learning_engineering.adoption.frames import NONE_OBJECT, UnknownDtype, build_frame, rows_of
from machine_learning_engineering.declaration.schema import FeatureDeclaration

pd = pytest.importorskip("pandas", reason="needs the extra pandas")

VALUES = {
    "float64": ("float", "float64", [1.5, None, 3.0]),
    "float32": ("float", "float32", [1.5, None, 0.1]),
    "int64": ("int", "int64", [1, 2, -3]),
    "int8": ("int", "int8", [1, 2, -3]),
    "Int64": ("int", "Int64", [1, None, 2**60]),
    "bool": ("bool", "bool", [True, False, True]),
    "bool-holes": ("bool", "object", [True, None, False]),
    "boolean": ("bool", "boolean", [True, None, False]),
    "text": ("text", "", ["a", None, "ü"]),
    "object": ("text", "object", ["a", None, "b"]),
    "none": ("text", NONE_OBJECT, ["a", None, "b"]),
    "string": ("text", "string", ["a", None, "b"]),
    "category": ("text", "category", ["b", None, "a"]),
    "numbers-as-categories": ("int", "category", [2, 1, None]),
    "day": ("text", "datetime64[ns]", ["2024-01-31T10:00:00", None, "2024-02-01T00:00:00"]),
    "zoned": ("text", "datetime64[us, UTC]", ["2024-01-31T10:00:00+00:00", None, "2024-02-01T00:00:00+00:00"]),
}


def declared(name: str) -> FeatureDeclaration:
    kind, dtype, values = VALUES[name]
    known = ("b", "a", "c") if kind == "text" else (1, 2)
    missing = "ok" if None in values else "refuse"
    return FeatureDeclaration(kind, dtype=dtype, missing=missing, known=known if dtype == "category" else ())


@pytest.mark.parametrize("name", VALUES)
def test_a_row_alone_has_the_types_of_the_batch(name):
    features = {name: declared(name)}
    rows = [{name: value} for value in VALUES[name][2]]
    batch = build_frame(rows, features)
    for number, row in enumerate(rows):
        alone = build_frame([row], features)
        assert alone.dtypes.equals(batch.dtypes)
        pd.testing.assert_frame_equal(alone, batch[number : number + 1].reset_index(drop=True))
        # The same kind of missing value, too, which the comparison above does not tell apart.
        assert type(alone[name].tolist()[0]) is type(batch[name].tolist()[number])
    assert build_frame([], features).dtypes.equals(batch.dtypes)


@pytest.mark.parametrize("name", VALUES)
def test_rows_and_frames_are_the_same_values(name):
    rows = [{name: value} for value in VALUES[name][2]]
    found = rows_of(build_frame(rows, {name: declared(name)}), {name: declared(name)})
    expected = np.float32(0.1).item() if name == "float32" else rows[-1][name]
    assert found[:-1] == rows[:-1]
    assert found[-1][name] == expected
    assert [type(row[name]) for row in found] == [type(row[name]) for row in rows]


def test_missing_values_are_those_of_the_pipeline():
    features = {"a": declared("text"), "b": declared("none"), "c": declared("string")}
    row = build_frame([{}], features).iloc[0]
    assert isinstance(row["a"], float)
    assert np.isnan(row["a"])
    assert row["b"] is None
    assert row["c"] is pd.NA


def test_structs_defaults_and_constants():
    class Row(msgspec.Struct):
        amount: float | None
        country: str | None
        shop: str | None = None

    features = {
        "amount": FeatureDeclaration("float", default=0.5),
        "country": FeatureDeclaration("text", missing="ok"),
        "shop": FeatureDeclaration("text", constant="web"),
    }
    frame = build_frame([Row(None, "de"), Row(2, None)], features)
    assert frame["amount"].tolist() == [0.5, 2.0]
    assert frame["shop"].tolist() == ["web", "web"]
    assert list(frame.columns) == ["amount", "country", "shop"]


@pytest.mark.parametrize(
    ("feature", "value", "error"),
    [
        (FeatureDeclaration("int"), None, "missing or not whole"),
        (FeatureDeclaration("int"), 1.5, "missing or not whole"),
        (FeatureDeclaration("int", dtype="int8"), 300, "does not fit into a column of int8"),
        (FeatureDeclaration("int", dtype="uint8"), -1, "does not fit into a column of uint8"),
        (FeatureDeclaration("int"), 2**70, "missing or not whole"),
        (FeatureDeclaration("text", dtype="datetime64[ns]"), "tomorrow", "tomorrow|doesn't match|Unknown"),
        (FeatureDeclaration("float", dtype="complex64"), 1.0, "can't be made of JSON"),
        (FeatureDeclaration("float", dtype="decimal"), 1.0, "pandas has no type"),
    ],
)
def test_values_that_do_not_fit_are_errors(feature, value, error):
    """Never another value: an integer that wraps around would be answered."""
    with pytest.raises(ValueError, match=error):
        build_frame([{"x": value}], {"x": feature})
    assert issubclass(UnknownDtype, ValueError)


def test_a_value_that_is_no_category_is_missing():
    frame = build_frame([{"c": "z"}, {"c": "a"}], {"c": declared("category")})
    assert frame["c"].isna().tolist() == [True, False]
    assert frame["c"].cat.categories.tolist() == ["b", "a", "c"]

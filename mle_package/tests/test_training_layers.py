"""The layers: what is accepted, which columns they have, and that they appear whole or not at all."""

import errno
import hashlib
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.core import files as durable
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.sdk import MLEModel
from machine_learning_engineering.training import layers
from machine_learning_engineering.training.layers import BadData
from machine_learning_engineering.training.records import Source
from machine_learning_engineering.training.sources import collect

pa = pytest.importorskip("pyarrow")


@pytest.fixture
def records(doubler_class, settings):
    """The records of examples."""
    return lambda examples, cls=doubler_class: collect(cls, settings, [], examples=examples).records


GOOD = [
    Example({"number": 1, "unit": "km", "count": 3, "note": "abc"}, 2.0),
    Example({"number": 2.5, "note": None}, 5.0, "pair"),
    Example({"number": 3}, 6.0, "pair"),
]


def test_bronze_holds_records_as_they_were_found(records):
    table = layers.bronze_table(records([*GOOD, Example({"nonsense": [1]}, None)]))
    assert table.schema.names == ["source", "number", "group", "features", "label"]
    assert table.to_pylist()[-1] == {
        "source": "examples",
        "number": 4,
        "group": None,
        "features": '{"nonsense":[1]}',
        "label": "null",
    }


def test_silver_has_a_typed_column_a_field(doubler, records):
    found = records(GOOD)
    table = layers.silver_table(doubler, layers.validate(doubler, found), found)
    assert {name: str(kind) for name, kind in zip(table.schema.names, table.schema.types, strict=True)} == {
        "record": "int64",
        "group": "string",
        "number": "double",
        "unit": "string",
        "count": "int64",
        "note": "string",
        "label": "double",
    }
    assert table.to_pylist()[1] == {
        "record": 1,
        "group": "pair",
        "number": 2.5,
        "unit": "m",
        "count": None,
        "note": None,
        "label": 5.0,
    }


def test_gold_has_a_column_an_input_and_the_part_of_each_row(doubler, records):
    accepted = layers.validate(doubler, records(GOOD))
    table = layers.gold_table(doubler, accepted, held_out=[2])
    assert table.to_pylist()[2] == {"record": 2, "part": "held-out", "input_0": 3.0, "label": 6.0}
    assert table["part"].to_pylist() == ["fit", "fit", "held-out"]


def test_inputs_may_be_texts_or_sparse_and_have_names(doubler_class, records):
    from scipy.sparse import csr_matrix

    class Texts(doubler_class):
        feature_names_in = ("text",)

        def build_inputs(self, rows):
            return np.array([f"{row.number} {row.unit}" for row in rows], dtype=object)

    class Sparse(doubler_class):
        def build_inputs(self, rows):
            return csr_matrix([[0.0, row.number] for row in rows])

    accepted = layers.validate(doubler_class(), records(GOOD))
    assert layers.gold_table(Texts(), accepted, [])["text"].to_pylist() == ["1.0 km", "2.5 m", "3.0 m"]
    sparse = layers.gold_table(Sparse(), accepted, [])
    assert sparse["input_indices"].to_pylist() == [[1], [1], [1]]
    assert sparse["input_values"].to_pylist() == [[1.0], [2.5], [3.0]]


def test_inputs_of_several_types_are_stored_too(doubler_class, records):
    """Of a matrix of objects, the natural thing beside a `ColumnTransformer`; what parquet has no type for is text."""

    class Mixed(doubler_class):
        feature_names_in = ("number", "unit", "odd", "gap")

        def build_inputs(self, rows):
            odd = [1.5, "two", (3, 4)]
            matrix = np.empty((len(rows), 4), dtype=object)
            for index, row in enumerate(rows):
                matrix[index] = [row.number, row.unit, None, np.nan if index else "known"]
                matrix[index, 2] = odd[index]
            return matrix

    accepted = layers.validate(doubler_class(), records(GOOD))
    gold = layers.gold_table(Mixed(), accepted, [])
    assert gold["number"].to_pylist() == [1.0, 2.5, 3.0]
    assert gold["unit"].to_pylist() == ["km", "m", "m"]
    assert gold["odd"].to_pylist() == ["1.5", "two", "(3, 4)"]
    assert gold["gap"].to_pylist() == ["known", None, None]


class Frame:
    """What data frames of all libraries have in common, where none is installed."""

    def __init__(self, data):
        self._data = {name: np.array(values, dtype=object) for name, values in data.items()}
        self.columns = list(data)

    def __getitem__(self, name):
        return self._data[name]

    def to_numpy(self):
        return np.column_stack(list(self._data.values()))


@pytest.mark.parametrize("library", ["none", "pandas", "polars"])
def test_inputs_may_be_a_data_frame(doubler_class, records, library):
    frames = SimpleNamespace(DataFrame=Frame) if library == "none" else pytest.importorskip(library)

    class Framed(doubler_class):
        def build_inputs(self, rows):
            units = [None if row.number > 2 else row.unit for row in rows]
            return frames.DataFrame({"number": [row.number for row in rows], "unit": units})

    accepted = layers.validate(doubler_class(), records(GOOD))
    gold = layers.gold_table(Framed(), accepted, [])
    assert gold["number"].to_pylist() == [1.0, 2.5, 3.0]
    assert gold["unit"].to_pylist() == ["km", None, None]
    Framed.feature_names_in = ("a", "b")
    assert layers.gold_table(Framed(), accepted, []).column_names == ["record", "part", "a", "b", "label"]
    Framed.feature_names_in = ("a",)
    with pytest.raises(ValueError, match="feature_names_in has 1 names for 2 columns"):
        layers.gold_table(Framed(), accepted, [])


def test_a_feature_or_an_input_named_like_a_column_of_the_layer_takes_its_place(doubler_class, records):
    """And comes back: what a layer would have there is in the bronze one too."""
    features = [("number", float), ("group", str), ("record", int)]

    class Named(doubler_class):
        Features = msgspec.defstruct("NamedFeatures", features, frozen=True)
        feature_names_in = ("record",)

    examples = [Example({"number": n, "group": f"g{n}", "record": 10 * n}, 2.0 * n, "pair") for n in range(1, 4)]
    found = records(examples, Named)
    accepted = layers.validate(Named(), found)
    silver = layers.silver_table(Named(), accepted, found)
    assert silver.to_pylist()[0] == {"record": 10, "group": "g1", "number": 1.0, "label": 2.0}
    assert layers.rows_of(Named(), silver) == (accepted.rows, accepted.labels)
    gold = layers.gold_table(Named(), accepted, held_out=[0])
    assert gold.to_pylist()[0] == {"record": 1.0, "part": "held-out", "label": 2.0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"label_name": "number"}, "the label `number` of Named has the name of a column of the layers"),
        ({"label_name": "part"}, "the label `part` of Named"),
        ({"feature_names_in": ("part",)}, "the input `part` of Named"),
        ({"feature_names_in": ("label",)}, "the input `label` of Named"),
    ],
)
def test_a_name_that_would_hide_another_column_is_refused(doubler_class, records, given, message):
    named = type("Named", (doubler_class,), given)
    found = records(GOOD, named)
    accepted = layers.validate(named(), found)

    def tables():
        return layers.silver_table(named(), accepted, found), layers.gold_table(named(), accepted, [])

    with pytest.raises(ValueError, match=message):
        tables()


def test_names_that_are_not_as_many_as_inputs_are_an_error(doubler_class, records):
    class Misnamed(doubler_class):
        feature_names_in = ("a", "b")

    with pytest.raises(ValueError, match=re.escape("Misnamed.feature_names_in has 2 names for 1 columns")):
        layers.gold_table(Misnamed(), layers.validate(doubler_class(), records(GOOD)), [])


class Everything(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    flag: bool
    rank: Literal[1, 2, 3]
    either: int | float
    texts: list[str]
    size: Annotated[float, msgspec.Meta(ge=0)] | None = None
    inner: dict[str, int] | None = None


class Anything(MLEModel):
    name = "any"
    Features = Everything
    Prediction = Everything
    primary_metric = "r2"

    def build_inputs(self, rows):
        return np.zeros((len(rows), 1))


ROWS = st.builds(
    Everything,
    flag=st.booleans(),
    rank=st.sampled_from([1, 2, 3]),
    either=st.integers(-(2**50), 2**50) | st.floats(allow_nan=False, allow_infinity=False),
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), max_size=3),
    size=st.none() | st.floats(0, 1e9),
    inner=st.none() | st.dictionaries(st.sampled_from("ab"), st.integers(0, 9)),
)


@given(rows=st.lists(ROWS, min_size=2, max_size=5))
def test_rows_come_back_from_silver_as_they_were(rows):
    model = Anything()
    found = [
        layers.Record("x", number, msgspec.json.encode(row), b"%d" % number, None) for number, row in enumerate(rows)
    ]
    accepted = layers.validate(model, found)
    table = layers.silver_table(model, accepted, found)
    back, labels = layers.rows_of(model, table)
    assert back == accepted.rows == rows
    assert labels == accepted.labels


def test_bad_records_are_named_by_line_and_field_ten_at_most(doubler, records):
    bad = [Example({"number": -number}, 1.0) for number in range(1, 13)]
    with pytest.raises(BadData) as raised:
        layers.validate(doubler, records([*GOOD, *bad]))
    message = str(raised.value)
    assert message.startswith("12 of 15 records are invalid:\nexamples line 4: feature `number` must be")
    assert message.endswith("... and 2 more")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1.0, None], "line 2: label `label`: missing"),
        ([1.0, "x"], "labels are of several types: float, str"),
        ([1.0, 1.0], "all 2 labels are 1.0: there is nothing to learn"),
    ],
)
def test_labels_that_teach_nothing_are_refused(doubler, records, labels, message):
    with pytest.raises(BadData, match=message):
        layers.validate(doubler, records([Example({"number": 1}, label) for label in labels]))


def test_labels_have_the_type_that_the_model_states(doubler_class, records):
    class Positive(doubler_class):
        Label = Annotated[float, msgspec.Meta(gt=0)]
        label_name = "double"

    with pytest.raises(BadData, match="line 2: label `double`: Expected `float` > 0"):
        layers.validate(Positive(), records([Example({"number": 1}, 2.0), Example({"number": 1}, 0.0)]))


def test_equal_rows_share_a_group_and_so_do_those_that_say_so(doubler, records):
    same = [Example({"number": 3}, 6.0), Example({"number": 3, "unit": "m"}, 7.0)]
    groups = layers.validate(doubler, records([*GOOD[:2], Example({"number": 9}, 1.0, "pair"), *same])).groups
    assert groups[1] == groups[2]
    assert groups[3] == groups[4]
    assert len(set(groups)) == 3


def test_a_file_tells_what_it_is_by_an_id_of_its_own(doubler, records, tmp_path):
    table = layers.bronze_table(records(GOOD))
    sources = [Source("examples", "digest", 3)]
    one = layers.write(tmp_path, "bronze", doubler, table, sources=sources)
    two = layers.write(tmp_path, "silver", doubler, table, parents=[one])
    assert re.fullmatch(r"bronze-\d{8}T\d{6}Z-[0-9a-f]{8}", one.id)
    assert Path(one.path) == tmp_path / "doubler" / "bronze" / f"{one.id}.parquet"
    assert one.sha256 == hashlib.sha256(Path(one.path).read_bytes()).hexdigest()
    told, read = layers.read(Path(one.path))
    assert told == msgspec.structs.replace(one, sha256="")
    assert read.to_pylist() == table.to_pylist()
    assert two.parents == (one.id,)
    assert layers.write(tmp_path, "bronze", doubler, table).id != one.id


def test_another_parquet_file_is_no_layer(tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="not a layer of a training"):
        layers.read(tmp_path / "a.parquet")


def test_of_a_layer_that_can_not_be_written_nothing_is_left(doubler, records, tmp_path, monkeypatch):
    def full(path, content):
        path.write_bytes(content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable, "write", full)
    with pytest.raises(OSError, match="No space left"):
        layers.write(tmp_path, "bronze", doubler, layers.bronze_table(records(GOOD)))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []

"""Files that other people wrote: every reader of them accepts the same and refuses the same, with line and cause."""

import io
import json
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, Raw

from machine_learning_engineering.core.csv_row import label_of_cell, label_of_value, value_of
from machine_learning_engineering.core.table_file import CsvReader, MalformedLine, json_objects
from machine_learning_engineering.feature_store.examples import read_labels
from machine_learning_engineering.feature_store.offline import FeatureStoreError
from machine_learning_engineering.training.log_source import read_label_file
from machine_learning_engineering.training.records import SourceUnreadable
from machine_learning_engineering.training.sources import collect

HEADER = "request_id,model,number,label,observed_at"
ROW = "r1,doubler,1,2,2026-01-01T00:00:00Z"
OBJECT = '{"request_id":"r1","model":"doubler","number":1,"label":2,"observed_at":"2026-01-01T00:00:00Z"}'
GOOD = f"{HEADER}\n{ROW}\n"

BAD_CSV = {
    "repeated column": (f"{HEADER},label\n{ROW},3\n", "line 1: .*'label' twice"),
    "semicolons": (GOOD.replace(",", ";"), "line 1: the columns are separated by a semicolon"),
    "semicolons and decimal commas": (GOOD.replace(",", ";").replace(";1;", ";1,5;"), "line 1: .*a semicolon"),
    "sep line of Excel": ("sep=;\n" + GOOD.replace(",", ";"), "line 1: .*a semicolon"),
    "tabs": (GOOD.replace(",", "\t"), "line 1: .*a tab"),
    "bars": (GOOD.replace(",", "|"), "line 1: .*a vertical bar"),
    "spaces in the header": (GOOD.replace(",", ", "), "line 1: a space around the name ' model'"),
    "spaces in a row": (GOOD + ROW.replace(",", ", "), "line 3: a space after each comma"),
    "space before a quotation mark": (GOOD + ROW.replace(",1,", ', "1",'), "line 3: a space before a quotation mark"),
    "cells too many": (GOOD + ROW + ",9\n", "line 3: it does not have 5 cells like the header, but 6"),
    "cells missing": (GOOD + "r2,doubler\n", "line 3: it does not have 5 cells like the header, but 2"),
    "an open quotation mark": (GOOD + '"r2,doubler,1,2\n', "line 3: unexpected end of data"),
    "Latin-1 in the header": (GOOD.replace("number", "größe").encode("latin-1"), "line 1: not UTF-8, .* Latin-1"),
    "Latin-1 in a row": (GOOD.replace("r1", "ré").encode("latin-1"), "line 2: not UTF-8, but probably Latin-1"),
}
BAD_JSONL = {
    "a field twice": (OBJECT + "\n" + OBJECT.replace("}", ',"label":3}'), "line 2: the field 'label' is there twice"),
    "an array": (f"[{OBJECT},\n{OBJECT}]", "line 1: .*one JSON array"),
    "an object over several lines": (json.dumps(json.loads(OBJECT), indent=1), "line 1: .*span several lines"),
    "Latin-1": (OBJECT.replace("r1", "ré").encode("latin-1"), "line 1: not UTF-8, but probably Latin-1"),
}
BAD_BOTH = {
    "UTF-16": (GOOD.encode("utf-16"), "line 1: not UTF-8, but UTF-16"),
    "UTF-16 without a mark": (GOOD.encode("utf-16-le"), "line 1: not UTF-8, but probably UTF-16"),
    "UTF-32": (GOOD.encode("utf-32"), "line 1: not UTF-8, but UTF-32"),
    "gzip": (b"\x1f\x8b\x08" + bytes(20), "line 1: this is a gzip file"),
    "Excel": (b"PK\x03\x04" + bytes(20), "line 1: this is a zip file, such as an Excel workbook"),
    "parquet": (b"PAR1" + bytes(20), "line 1: this is a parquet file"),
}
CASES = [
    *[(f"x{ending}", *case) for case in BAD_CSV.values() for ending in (".csv", ".CSV")],
    *[(f"x{ending}", *case) for case in BAD_JSONL.values() for ending in (".jsonl", ".NDJSON")],
    *[(f"x{ending}", *case) for case in BAD_BOTH.values() for ending in (".csv", ".jsonl")],
]


@pytest.fixture
def readers(doubler_class, settings, monkeypatch):
    """Each reader of the package, and the error that names a bad file."""
    features = msgspec.defstruct(
        "F",
        [(name, Any, None) for name in ("request_id", "model", "number", "observed_at")],
        forbid_unknown_fields=True,
    )
    model = type("Model", (doubler_class,), {"Features": features, "Label": int})
    return {
        "training": (lambda path: collect(model, settings, [str(path)]).records[0].label, SourceUnreadable),
        "retraining": (lambda path: bytes(read_label_file(path, model)["r1"]), SourceUnreadable),
        "labels": (lambda path: b"%d" % next(iter(list(read_labels(path)))).label, FeatureStoreError),
    }


@pytest.mark.parametrize("reader", ["training", "retraining", "labels"])
@pytest.mark.parametrize(("name", "content", "message"), CASES)
def test_each_reader_refuses_a_bad_file_with_file_line_and_cause(readers, tmp_path, reader, name, content, message):
    read, error = readers[reader]
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(error, match=message) as raised:
        read(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("reader", ["training", "retraining", "labels"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", GOOD),
        ("x.CSV", "\ufeff" + GOOD),
        ("x.csv", GOOD.replace("\n", "\r\n") + "\r\n"),
        ("x.jsonl", OBJECT),
        ("x.NDJSON", "\ufeff\n" + OBJECT),
        ("x.JSONL", "\ufeff" + OBJECT + "\r\n"),
    ],
)
def test_each_reader_accepts_marks_line_ends_and_upper_case_endings(readers, tmp_path, reader, name, content):
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert readers[reader][0](path) == b"2"


def test_a_stream_without_peek_is_checked_and_not_consumed():
    assert list(json_objects(io.BytesIO(b'{"a":1}'))) == [(1, {"a": 1})]
    with pytest.raises(MalformedLine, match="UTF-16"):
        CsvReader(io.BytesIO("a,b\n".encode("utf-16")))


def test_text_of_two_columns_may_begin_with_a_space():
    assert [cells for _, cells in CsvReader(io.BytesIO(b"stars,text\n5, fine\n"))] == [["5", " fine"]]


@pytest.mark.parametrize("spelling", ["1", "1.0", "True", "true", "TRUE"])
def test_a_cell_of_a_boolean_label_has_one_type_however_it_is_spelled(spelling):
    assert label_of_cell(spelling, bool) is True
    assert value_of(spelling, bool | None) is True


@pytest.mark.parametrize(
    ("value", "label_type", "label"),
    [
        (1, bool, True),
        (0.0, bool, False),
        ("true", bool, True),
        (3.0, int, 3),
        ("3", int, 3),
        (326, float, 326),
        ("326", float, 326.0),
        (5, str, "5"),
        (2, Literal["1", "2"], "2"),
        (2.0, Literal[1, 2], 2),
        (2, bool, 2),
        ("many", float, "many"),
        ({"x": 1}, Any, {"x": 1}),
    ],
)
def test_a_label_gets_the_type_of_its_model_and_anything_else_stays(value, label_type, label):
    found = label_of_value(value, label_type)
    assert (found, type(found)) == (label, type(label))


class Numbers(msgspec.Struct, forbid_unknown_fields=True):
    whole: int
    level: Literal[1, 2, 3] = 1
    size: Annotated[int, Meta(ge=0)] | None = None
    several: list[int] = []
    decimal: float = 0.0
    text: str = ""


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ('{"whole":3.0}', Numbers(3)),
        (
            '{"whole":3.0,"level":2.0,"size":4.0,"several":[1.0,2],"decimal":5.0}',
            Numbers(3, 2, 4, [1, 2], 5.0),
        ),
        ('{"whole":1e3,"decimal":-0.0}', Numbers(1000, decimal=-0.0)),
    ],
)
def test_a_number_without_a_fraction_is_an_integer_for_every_model(doubler_class, raw, expected):
    model = type("Model", (doubler_class,), {"Features": Numbers})()
    found = model.decode(Raw(raw.encode()))
    assert found == expected
    assert str(found.decimal) == str(expected.decimal)
    assert type(found.whole) is int


@pytest.mark.parametrize(
    "raw", ['{"whole":3.5}', '{"whole":3.0,"level":4.0}', '{"whole":1e300}', '{"whole":3.0,"x":1}']
)
def test_any_other_number_is_still_refused(doubler_class, raw):
    model = type("Model", (doubler_class,), {"Features": Numbers})()
    with pytest.raises(ValueError, match=r"feature `(whole|level|x)`"):
        model.decode(raw.encode())


def test_numbers_of_a_data_frame_are_logged_and_predicted(doubler, tmp_path):
    import numpy as np

    from machine_learning_engineering.prediction_log.predict import predict_with_logging
    from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog

    row = {"number": np.float64(2.0), "count": np.int64(3)}
    with SqlitePredictionLog(tmp_path / "log.sqlite") as log:
        found = predict_with_logging(doubler, [row, {"number": np.float32(3.0)}], log, spool_dir=tmp_path)
    assert [outcome.error for outcome in found.outcomes] == [None, None]

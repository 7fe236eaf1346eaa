"""Files of examples, labels and requests: CSV, JSON Lines and parquet, for each command that reads them."""

import io
from pathlib import Path
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from machine_learning_engineering.core.extras import require
from machine_learning_engineering.core.json_values import value_of_cell
from machine_learning_engineering.core.table_file import MalformedLine
from machine_learning_engineering.feature_store.examples import read_labels
from machine_learning_engineering.feature_store.offline import FeatureStoreError
from machine_learning_engineering.settings import KernelSettings
from machine_learning_engineering.training.log_source import read_label_file
from machine_learning_engineering.training.records import SourceUnreadable, decode_label
from machine_learning_engineering.training.sources import collect
from producers.request_builder import RequestBuilder
from producers.sources import BadLines, read_stream
from tests.support import fuzz_corpus as corpus
from tests.support.fuzzing import bounded, dose, mutated

DOORS = (
    "mle_package/machine_learning_engineering/core/table_file.py:CsvReader.__init__",
    "mle_package/machine_learning_engineering/core/table_file.py:json_objects",
    "mle_package/machine_learning_engineering/core/csv_row.py:label_of_value",
    "mle_package/machine_learning_engineering/core/json_values.py:value_of_cell",
    "mle_package/machine_learning_engineering/core/timestamps.py:parse_time",
    "mle_package/machine_learning_engineering/feature_store/examples.py:_label_of_line",
    "mle_package/machine_learning_engineering/training/log_source.py:_labels",
    "mle_package/machine_learning_engineering/training/sources.py:_parquet",
    "mle_package/machine_learning_engineering/training/records.py:decode_label",
    "producers/sources.py:_OBJECT",
    "producers/sources.py:_ENVELOPE",
    "producers/sources.py:read_csv",
    "producers/request_builder.py:RequestBuilder._features",
)
TYPES = {"houses": corpus.Houses.Label, "yes": bool, "words": str, "whole": int}

EXAMPLES_CSV = (
    b"area,rooms,kind,owner,price\n70.5,3,flat,Ann,211.5\n12,,house,,36\n",
    b'\xef\xbb\xbfprice,area,owner\r\n3,1,"a ""b"", c"\r\n6,2,"two\nlines"\r\n',
)
EXAMPLES_JSONL = tuple(
    b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    for lines in (
        [{**corpus.FEATURES[0], "price": 211.5}, {**corpus.FEATURES[1], "price": 36}],
        [{"features": features, "label": 3.5, "group": "g"} for features in corpus.FEATURES],
    )
)
LABELS_JSONL = tuple(
    b"".join(
        msgspec.json.encode({"request_id": f"r-{n}", "model": model, "label": label, "observed_at": corpus.NOW}) + b"\n"
        for n, label in enumerate(labels)
    )
    for model, labels in (("houses", (3.5, 4)), ("yes", (True, 0)), ("words", ("a", 5)), ("whole", (3.0, 7)))
)
LABELS_CSV = (
    b"request_id,model,label,observed_at\nr-1,houses,3.5,2026-01-01T00:00:00Z\nr-2,yes,True,2026-01-01T00:00:00+02:00\n",
    b"request_id,model,label,observed_at\nr-1,whole,3.0,2026-01-01T00:00:00Z\n",
)
REQUESTS_JSONL = (b"\n".join(corpus.REQUESTS), *EXAMPLES_JSONL)


def _parquet_file() -> bytes:
    pa, pq = require("pyarrow", "training"), require("pyarrow.parquet", "training")
    content = io.BytesIO()
    pq.write_table(pa.table({"area": [1.0, 2.0], "kind": ["flat", "house"], "price": [3.0, 6.0]}), content)
    return content.getvalue()


def _train_on(content: bytes, path: Path, home: Path) -> None:
    """Read examples of a file; what is read has a form in which it can be trained on, the same again."""
    path.write_bytes(content)
    settings = KernelSettings(_env_file=None, home=home)  # type: ignore[call-arg]
    try:
        with bounded(len(content) * 4):
            found = collect(corpus.Houses, settings, [str(path)])
    except SourceUnreadable as error:
        assert str(path) in str(error)
        assert len(str(error)) < 3_000 + len(str(path)), str(error)[:500]
        return
    assert found.records
    assert found.sha256 == collect(corpus.Houses, settings, [str(path)]).sha256
    for record in found.records:
        assert isinstance(msgspec.json.decode(record.features), dict)
        msgspec.json.decode(record.label)


@dose(40)
@given(content=mutated(EXAMPLES_CSV))
@hypothesis.example(content=b'price,area\n3,"' + b"x" * 140_000 + b'"\n6,2\n')
def test_examples_in_csv(content: bytes, tmp_path: Path) -> None:
    _train_on(content, tmp_path / "examples.csv", tmp_path)


@dose(40)
@given(content=mutated(EXAMPLES_JSONL))
@hypothesis.example(content=b'{"area":1,"price":' + b"9" * 400 + b"}\n")
@hypothesis.example(content=b'{"area":' + b"9" * 30 + b',"price":3}\n')
def test_examples_in_json_lines(content: bytes, tmp_path: Path) -> None:
    _train_on(content, tmp_path / "examples.jsonl", tmp_path)


@dose(20)
@given(content=mutated([_parquet_file()]))
def test_examples_in_parquet(content: bytes, tmp_path: Path) -> None:
    _train_on(content, tmp_path / "examples.parquet", tmp_path)


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_labels_of_a_file(ending: str, tmp_path: Path) -> None:
    @dose(40)
    @given(content=mutated(LABELS_CSV if ending == "csv" else LABELS_JSONL))
    @hypothesis.example(content=b'{"request_id":"r","model":[],"label":1,"observed_at":"2026-01-01T00:00:00Z"}')
    @hypothesis.example(content=b'{"request_id":"r","model":"words","label":' + b"9" * 400 + b',"observed_at":"x"}')
    def read(content: bytes) -> None:
        path = tmp_path / f"labels.{ending}"
        path.write_bytes(content)
        try:
            with bounded(len(content) * 2):
                labels = list(read_labels(path, TYPES))
        except FeatureStoreError as error:
            assert str(path) in str(error)
        else:
            for label in labels:
                # Published, and read as the joiner reads it.
                msgspec.json.decode(msgspec.json.encode(label))
        try:
            known = read_label_file(path, corpus.Houses)
        except SourceUnreadable as error:
            assert str(path) in str(error)
            return
        assert all(isinstance(name, str) and isinstance(label, Raw) for name, label in known.items())

    read()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_requests_of_a_stream(ending: str, known: bool) -> None:
    @dose(26)
    @given(content=mutated(EXAMPLES_CSV if ending == "csv" else REQUESTS_JSONL))
    def read(content: bytes) -> None:
        told: list[MalformedLine] = []
        bad = BadLines(told.append)
        builder = RequestBuilder("houses", id_prefix="p")
        features = corpus.Houses.Features if known else None
        try:
            with bounded(len(content) * 2):
                found = list(read_stream(io.BytesIO(content), "it", ending, bad, features=features))
        except ValueError as error:
            # Only what makes the whole stream unusable; it names the stream or a column.
            assert ending == "csv" or "it line" in str(error), error
            return
        assert bad.count == len(told)
        records = [builder.build(one, number) for number, one in enumerate(found)]
        assert all(record.value is not None for _, record in records)

    read()


@dose(40)
@given(text=mutated([b"326.5", b'"x"', b'{"a":[1]}', b"null"]), label_type=st.sampled_from(list(TYPES.values())))
@hypothesis.example(text=b"[" * 20_000, label_type=str)
def test_a_label_of_a_log_is_one_of_its_type_or_none(text: bytes, label_type: Any) -> None:
    with bounded(len(text)):
        try:
            value = decode_label(label_type, Raw(text))
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return
    assert msgspec.to_builtins(msgspec.convert(value, label_type)) == value


@dose(20)
@given(text=st.text(max_size=30) | mutated([b"3.5"]).map(lambda one: one.decode(errors="replace")))
@hypothesis.example(text="[" * 20_000)
def test_a_cell_is_a_json_value_or_its_text(text: str) -> None:
    with bounded(len(text)):
        value = value_of_cell(text)
    assert value == text or isinstance(value, int | float | str | list | dict | None)

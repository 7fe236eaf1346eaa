"""Files to score, and what a scoring wrote about itself: rows, refused rows, or one error that names the file."""

from pathlib import Path
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import given

from machine_learning_engineering.core import files
from machine_learning_engineering.core.validation import InvalidFeatures
from machine_learning_engineering.scoring.chunks import ChunkReader
from machine_learning_engineering.scoring.inputs import InputRefused, find_inputs
from machine_learning_engineering.scoring.journal import (
    Labelled,
    OutputRefused,
    PartRecord,
    RunRecord,
    read_part,
    read_run,
)
from tests.support import fuzz_corpus as corpus
from tests.support.fuzzing import SECRET, bounded, dose, mutated

pytest.importorskip("pyarrow")
_K = "mle_package/machine_learning_engineering/"
DOORS = (
    _K + "scoring/lines.py:objects",
    _K + "scoring/tables.py:parquet_batches",
    _K + "scoring/journal.py:_read",
)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_lines_of_files(kind: str, tmp_path: Path) -> None:
    lines = [msgspec.json.encode(one | {"id": SECRET}) for one in corpus.FEATURES]
    names = list(corpus.FEATURES[0])
    cells = [",".join([*(str(one.get(name, "")) for name in names), SECRET]) for one in corpus.FEATURES]
    content = b"\n".join(lines) if kind == "jsonl" else "\n".join([",".join([*names, "id"]), *cells]).encode()
    path = tmp_path / f"in.{kind}"
    model = corpus.Houses()

    @dose(60)
    @given(content=mutated([content]))
    @hypothesis.example(content=content + b"\n" + b"[" * 20_000)
    @hypothesis.example(content=content + b'\n{"area":' + b"9" * 5_000 + b"}")
    def read(content: bytes) -> None:
        files.write(path, content)
        with bounded(len(content) + 2_000):
            try:
                [file] = find_inputs([str(path)])
                reader = ChunkReader(corpus.Houses, {}, 3)
                layout = reader.layout(file)
                chunks = list(reader.chunks(file, layout, layout.found.others, 0, lambda done: None))
            except InputRefused as error:
                assert str(path) in str(error)
                assert len(str(error)) < 3_000
                return
        for chunk in chunks:
            assert len(chunk.numbers) == len(chunk.requests)
            assert {index for index, one in enumerate(chunk.requests) if one is None} == chunk.malformed.keys()
            for one in filter(None, chunk.requests):
                decode(one)

    def decode(one: Any) -> None:
        if isinstance(one, bytes):
            try:
                model.decode(one)
            except InvalidFeatures as error:
                assert SECRET not in str(error)

    read()


def test_parquet(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "in.parquet"
    names = ("area", "rooms", "kind", "owner")
    pq.write_table(
        pa.Table.from_pylist([{name: one.get(name) for name in names} for one in corpus.FEATURES] * 20), path
    )

    @dose(40)
    @given(content=mutated([path.read_bytes()]))
    def read(content: bytes) -> None:
        files.write(path, content)
        try:
            [file] = find_inputs([str(path)])
            reader = ChunkReader(corpus.Houses, {}, 7)
            layout = reader.layout(file)
            chunks = list(reader.chunks(file, layout, layout.found.others, 0, lambda done: None))
        except InputRefused as error:
            assert str(path) in str(error)
            return
        assert all(len(chunk.numbers) == len(chunk.requests) for chunk in chunks)

    read()


def test_records_of_a_scoring(tmp_path: Path) -> None:
    run = RunRecord("houses", "v1", "0" * 64, [], "parquet", None, ["id"], "price", 10, 160)
    part = PartRecord(0, 0, 10, 1, 100, True, {"no": 1}, [Labelled(1, {"price": 1.5}, 2)])
    path = tmp_path / "record.json"

    @dose(60)
    @given(content=mutated([msgspec.json.encode(run), msgspec.json.encode(part)]))
    def read(content: bytes) -> None:
        files.write(path, content)
        for reader, kind in ((read_run, RunRecord), (read_part, PartRecord)):
            try:
                with bounded(len(content)):
                    assert isinstance(reader(path), kind)
            except OutputRefused as error:
                assert str(path) in str(error)

    read()

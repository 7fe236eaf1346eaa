"""Predictions as a parquet file: every record is in it, and it is there whole or not at all."""

import os
import sys
from pathlib import Path

import msgspec
import pytest

from machine_learning_engineering.events.schemas import Error
from machine_learning_engineering.prediction_log import parquet as prediction_log_parquet
from machine_learning_engineering.prediction_log.parquet import export_parquet
from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
from machine_learning_engineering.prediction_log.store import PredictionLogError

from .support.records import START, record


@pytest.fixture
def log(tmp_path):
    with SqlitePredictionLog(tmp_path / "new" / "log.sqlite") as opened:
        yield opened


def test_parquet_without_pyarrow_names_the_extra(log, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"\[parquet\]"):
        export_parquet(log.read("doubler"), tmp_path / "log.parquet")


def test_parquet_holds_every_record(log, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")
    monkeypatch.setattr(prediction_log_parquet, "_PAGE", 2)
    failed = record("r3", minute=3, outcome="failed", prediction=msgspec.UNSET, error=Error("prediction_error", "no"))
    log.append([record("r1"), record("r2", minute=2), failed])
    log.label("r1", 2)
    assert export_parquet(log.read("doubler"), tmp_path / "log.parquet") == 3
    rows = parquet.read_table(tmp_path / "log.parquet").to_pylist()
    assert [row["request_id"] for row in rows] == ["r1", "r2", "r3"]
    assert (rows[0]["label"], rows[0]["features"], rows[0]["created_at"]) == ("2", '{"number":1}', START)
    assert (rows[2]["prediction"], rows[2]["error_type"]) == (None, "prediction_error")
    assert [path.name for path in tmp_path.glob("*parquet*")] == ["log.parquet"]


def test_a_parquet_file_is_on_the_disk_before_it_has_its_name(log, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    log.append([record()])
    steps = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor):
        fsync(descriptor)
        steps.append(("synced", os.fstat(descriptor).st_ino))

    def replaced(partial, path):
        steps.append(("named", partial.stat().st_ino))
        return replace(partial, path)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    export_parquet(log.read("doubler"), tmp_path / "log.parquet")
    file, folder = (path.stat().st_ino for path in (tmp_path / "log.parquet", tmp_path))
    assert steps == [("synced", file), ("named", file), ("synced", folder)]


def test_two_exports_to_one_path_at_once_are_both_whole(log, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")
    path = tmp_path / "log.parquet"

    def meanwhile():
        yield record("r1")
        assert export_parquet([record("r2")], path) == 1
        assert parquet.read_table(path)["request_id"].to_pylist() == ["r2"]
        yield record("r3")

    assert export_parquet(meanwhile(), path) == 2
    assert parquet.read_table(path)["request_id"].to_pylist() == ["r1", "r3"]


def test_an_export_that_fails_leaves_the_file_before_it(log, tmp_path):
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    path = tmp_path / "log.parquet"
    export_parquet([record()], path)
    before = path.read_bytes()

    def breaking():
        yield record("r1")
        raise PredictionLogError("the log is unreachable")

    with pytest.raises(PredictionLogError, match="unreachable"):
        export_parquet(breaking(), path)
    assert {found.name: found.read_bytes() for found in tmp_path.glob("*parquet*")} == {"log.parquet": before}
    assert not list(tmp_path.glob(".partial*"))

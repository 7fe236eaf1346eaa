"""The log of predictions: what every implementation keeps to, and what SQLite adds."""

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from msgspec import Raw

from machine_learning_engineering import prediction_log
from machine_learning_engineering.events import Error
from machine_learning_engineering.prediction_log import (
    LoggedPrediction,
    NotLogged,
    PredictionLogError,
    SqlitePredictionLog,
    export_parquet,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def record(request_id="r1", *, model="doubler", version="v1", minute=0, features=b'{"number":1}', **changes):
    given = {
        "request_id": request_id,
        "model": model,
        "model_version": version,
        "outcome": "completed",
        "features": Raw(features),
        "created_at": START + timedelta(minutes=minute),
        "score_seconds": 0.25,
        "batch_size": 1,
        "prediction": Raw(b'{"double":2.0}'),
    }
    return LoggedPrediction(**(given | changes))


@pytest.fixture
def log(tmp_path):
    with SqlitePredictionLog(tmp_path / "new" / "log.sqlite") as opened:
        yield opened


def ids(records):
    return [one.request_id for one in records]


def plain(one):
    return msgspec.json.decode(msgspec.json.encode(one))


# --- the contract ---------------------------------------------------------------------------------------------------


def test_what_is_appended_is_read_again(log):
    failed = record(
        "r2", minute=1, outcome="failed", prediction=msgspec.UNSET, error=Error("prediction-error", "no"), batch_size=3
    )
    assert log.append([record(), failed]) == 2
    assert [plain(one) for one in log.read("doubler")] == [plain(record()), plain(failed)]


def test_nothing_is_appended_and_read(log):
    assert log.append([]) == 0
    assert list(log.read("doubler")) == []


def test_of_two_with_the_same_id_the_first_wins(log):
    assert log.append([record(), record(version="v2")]) == 1
    assert log.append([record(version="v3"), record("r2")]) == 1
    assert [one.model_version for one in log.read("doubler")] == ["v1", "v1"]


def test_a_model_a_version_and_a_time_are_chosen(log):
    log.append([record(f"r{minute}", minute=minute, version=f"v{1 + minute // 2}") for minute in range(5)])
    log.append([record("other", model="halver")])
    at = [START + timedelta(minutes=minute) for minute in range(5)]
    assert ids(log.read("halver")) == ["other"]
    assert ids(log.read("doubler", since=at[1], until=at[3])) == ["r1", "r2"]
    assert ids(log.read("doubler", version="v2")) == ["r2", "r3"]
    assert ids(log.read("doubler", version="v2", since=at[3])) == ["r3"]
    elsewhere = at[3].astimezone(timezone(timedelta(hours=5)))
    assert ids(log.read("doubler", since=elsewhere)) == ["r3", "r4"]


def test_reading_is_in_order_of_time_and_over_any_number_of_records(log, monkeypatch):
    monkeypatch.setattr(prediction_log, "_PAGE", 7)
    # Several share a moment, so that pages end within one.
    log.append([record(f"r{n:03}", minute=-(n // 10)) for n in range(100)])
    found = list(log.read("doubler"))
    assert len(found) == len(set(ids(found))) == 100
    assert [one.created_at for one in found] == sorted(one.created_at for one in found)


def test_a_label_is_set_replaced_and_read(log):
    log.append([record(), record("r2", minute=1)])
    log.label("r1", 2.5)
    log.label("r1", {"price": None})
    first, second = log.read("doubler")
    assert msgspec.json.decode(first.label) == {"price": None}
    assert second.label is msgspec.UNSET


def test_a_label_survives_that_its_request_is_appended_again(log):
    log.append([record()])
    log.label("r1", True)
    log.append([record()])
    assert [one.label for one in log.read("doubler")] == [Raw(b"true")]


def test_a_label_for_an_unknown_request_is_refused(log):
    with pytest.raises(NotLogged, match="'r9' is not in the prediction log"):
        log.label("r9", 1)


def test_a_time_without_offset_is_refused(log):
    with pytest.raises(ValueError, match="has no offset"):
        list(log.read("doubler", since=datetime(2026, 1, 1)))


def test_a_batch_that_can_not_be_written_is_left_out_whole(log):
    def failing():
        yield record("r1")
        raise OSError("the source broke")

    with pytest.raises(OSError, match="the source broke"):
        log.append(failing())
    assert list(log.read("doubler")) == []
    assert log.append([record("r1")]) == 1


# --- SQLite ---------------------------------------------------------------------------------------------------------


def test_the_file_is_opened_again_with_all_that_it_had(tmp_path):
    path = tmp_path / "log.sqlite"
    with SqlitePredictionLog(path) as log:
        log.append([record()])
    with SqlitePredictionLog(path) as log:
        assert ids(log.read("doubler")) == ["r1"]


def test_commits_are_synced_and_in_wal(log):
    connection = log._connection
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from msgspec import Raw
from machine_learning_engineering.prediction_log import LoggedPrediction, SqlitePredictionLog

with SqlitePredictionLog(Path(sys.argv[1])) as log:
    for n in range(20):
        log.append([LoggedPrediction(
            request_id=f"{who}-{n}", model="doubler", model_version="v1", outcome="completed", features=Raw(b"{}"),
            created_at=datetime.now(UTC), score_seconds=0.0, batch_size=1) for who in (sys.argv[2], "all")])
"""


def test_several_processes_make_and_write_one_log(tmp_path):
    path = tmp_path / "log.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), f"w{n}"]) for n in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    with SqlitePredictionLog(path) as log:
        assert len(list(log.read("doubler"))) == 3 * 20 + 20


def test_threads_share_one_log(log):
    with ThreadPoolExecutor(4) as executor:
        counts = list(executor.map(lambda n: log.append([record(f"r{n % 50}")]), range(100)))
    assert sum(counts) == len(list(log.read("doubler"))) == 50


def test_a_newer_file_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "log.sqlite"
    with SqlitePredictionLog(path) as log:
        log._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(PredictionLogError, match="has schema version 99, this package knows 1: install a newer"):
        SqlitePredictionLog(path)


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "log.sqlite"
    path.write_text("no database, but long enough to be looked at " * 50)
    with pytest.raises(PredictionLogError, match="is no prediction log"):
        SqlitePredictionLog(path)


def test_a_folder_that_can_not_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(PredictionLogError, match=r"log\.sqlite can't be opened"):
        SqlitePredictionLog(tmp_path / "file" / "log.sqlite")


def test_a_log_that_another_process_holds_says_so(tmp_path):
    path = tmp_path / "log.sqlite"
    other = sqlite3.connect(path, isolation_level=None)
    try:
        with SqlitePredictionLog(path, timeout=0.05) as log:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(PredictionLogError, match="can't be written: database is locked"):
                log.append([record()])
            other.execute("ROLLBACK")
            assert log.append([record()]) == 1
    finally:
        other.close()


def test_a_closed_log_says_so(log):
    log.close()
    with pytest.raises(PredictionLogError, match="closed"):
        log.append([record()])
    with pytest.raises(PredictionLogError, match="closed"):
        list(log.read("doubler"))


# --- parquet --------------------------------------------------------------------------------------------------------


def test_parquet_without_pyarrow_names_the_extra(log, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"machine-learning-engineering\[parquet\]"):
        export_parquet(log.read("doubler"), tmp_path / "log.parquet")


def test_parquet_holds_every_record(log, tmp_path, monkeypatch):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra parquet")
    monkeypatch.setattr(prediction_log, "_PAGE", 2)
    failed = record("r3", minute=3, outcome="failed", prediction=msgspec.UNSET, error=Error("prediction-error", "no"))
    log.append([record("r1"), record("r2", minute=2), failed])
    log.label("r1", 2)
    assert export_parquet(log.read("doubler"), tmp_path / "log.parquet") == 3
    rows = parquet.read_table(tmp_path / "log.parquet").to_pylist()
    assert [row["request_id"] for row in rows] == ["r1", "r2", "r3"]
    assert (rows[0]["label"], rows[0]["features"], rows[0]["created_at"]) == ("2", '{"number":1}', START)
    assert (rows[2]["prediction"], rows[2]["error_type"]) == (None, "prediction-error")
    assert [path.name for path in tmp_path.glob("*parquet*")] == ["log.parquet"]

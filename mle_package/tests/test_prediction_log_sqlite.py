"""The log of predictions: what every implementation keeps to, and what SQLite adds."""

import sqlite3
import subprocess
import sys
from contextlib import suppress
from importlib.util import find_spec

import msgspec
import pytest

from machine_learning_engineering.prediction_log import sqlite as prediction_log
from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
from machine_learning_engineering.prediction_log.store import NotLogged, PredictionLogError
from machine_learning_engineering.testing.log_store import StoreCheckFailed, check_prediction_log, run_store_check
from machine_learning_engineering.testing.log_store_checks import STORE_CHECKS

from .support.records import record


@pytest.fixture
def log(tmp_path):
    with SqlitePredictionLog(tmp_path / "new" / "log.sqlite") as opened:
        yield opened


def ids(records):
    return [one.request_id for one in records]


# --- the contract ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)
def test_the_log_passes_the_contract_checks(check, tmp_path):
    run_store_check(check, lambda: SqlitePredictionLog(tmp_path / "log.sqlite"))


def test_all_checks_can_share_a_log(tmp_path):
    check_prediction_log(lambda: SqlitePredictionLog(tmp_path / "log.sqlite"))


class Rounding(SqlitePredictionLog):
    """Loses microseconds."""

    def append(self, records):
        return super().append(
            msgspec.structs.replace(one, created_at=one.created_at.replace(microsecond=0)) for one in records
        )


class Forgetful(SqlitePredictionLog):
    """Takes back what it has when it is closed."""

    def close(self):
        self._connection.execute("DELETE FROM predictions")
        super().close()


class Partial(SqlitePredictionLog):
    """Keeps what came before an error."""

    def append(self, records):
        return sum(super(Partial, self).append([one]) for one in records)


class Overwriting(SqlitePredictionLog):
    """The last one wins, and labels go."""

    def append(self, records):
        records = list(records)
        with self._writing() as connection:
            for one in records:
                connection.execute("DELETE FROM predictions WHERE request_id = ?", (one.request_id,))
        return super().append(records)


class Backwards(SqlitePredictionLog):
    """The newest first."""

    def read(self, model, **bounds):
        return reversed(list(super().read(model, **bounds)))


class Lax(SqlitePredictionLog):
    """A label for nothing is fine."""

    def label(self, request_id, label):
        with suppress(NotLogged, ValueError, TypeError):
            super().label(request_id, label)


@pytest.mark.parametrize(
    ("broken", "checks"),
    [
        (Rounding, {"check_microsecond_precision"}),
        (Forgetful, {"check_reopen"}),
        (Partial, {"check_append_atomic"}),
        (
            Overwriting,
            {
                "check_duplicate_id_keeps_first",
                "check_duplicate_id_across_days_keeps_first",
                "check_reappend_keeps_label",
                "check_log_thread_safety",
            },
        ),
        (
            Backwards,
            {
                *({"check_to_pandas"} if find_spec("pandas") else set()),
                "check_read_returns_appended",
                "check_rejected_features_unchanged",
                "check_duplicate_id_keeps_first",
                "check_read_filters",
                "check_microsecond_precision",
                "check_read_order_across_pages",
                "check_partial_read",
                "check_set_and_replace_label",
                "check_any_text_in_ids",
                "check_to_pandas",
            },
        ),
        (Lax, {"check_rejects_label_of_unknown_request", "check_rejects_non_json_label"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_broken_log_fails_exactly_these_checks(broken, checks, tmp_path):
    found = set()
    for check in STORE_CHECKS:
        try:
            run_store_check(check, lambda: broken(tmp_path / "log.sqlite"))
        except StoreCheckFailed as error:
            found |= {name for name in [check.__name__] if str(error).startswith(f"`{name}`: ")}
    # Without pandas there is nothing to check it by.
    assert found == checks - (set() if find_spec("pandas") else {"check_to_pandas"})


def test_an_error_in_a_check_is_a_failed_check(tmp_path):
    class Closed(SqlitePredictionLog):
        def append(self, records):
            raise PredictionLogError("closed for today")

    with pytest.raises(StoreCheckFailed, match="check_read_returns_appended`: PredictionLogError was raised: closed"):
        check_prediction_log(lambda: Closed(tmp_path / "log.sqlite"))


def test_pages_end_anywhere(log, monkeypatch):
    monkeypatch.setattr(prediction_log, "_PAGE", 7)
    log.append([record(f"r{n:03}", minute=-(n // 10)) for n in range(100)])
    found = list(log.read("doubler"))
    assert len(found) == len(set(ids(found))) == 100
    assert [one.created_at for one in found] == sorted(one.created_at for one in found)


# --- SQLite ---------------------------------------------------------------------------------------------------------


def test_commits_are_synced_and_in_wal(log):
    connection = log._connection
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


WRITER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from msgspec import Raw
from machine_learning_engineering.prediction_log.store import PredictionRecord
from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog

with SqlitePredictionLog(Path(sys.argv[1])) as log:
    for n in range(20):
        log.append([PredictionRecord(
            request_id=f"{who}-{n}", model="doubler", model_version="v1", outcome="completed", features=Raw(b"{}"),
            created_at=datetime.now(UTC), score_seconds=0.0, batch_size=1) for who in (sys.argv[2], "all")])
"""


def test_several_processes_make_and_write_one_log(tmp_path):
    path = tmp_path / "log.sqlite"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), f"w{n}"]) for n in range(3)]
    assert [writer.wait(300) for writer in writers] == [0, 0, 0]
    with SqlitePredictionLog(path) as log:
        assert len(list(log.read("doubler"))) == 3 * 20 + 20


def test_a_newer_file_is_refused_and_left_alone(tmp_path):
    path = tmp_path / "log.sqlite"
    with SqlitePredictionLog(path) as log:
        log._connection.execute("PRAGMA user_version = 99")
    with pytest.raises(PredictionLogError, match="has schema version 99, this package knows 1: install a newer"):
        SqlitePredictionLog(path)


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "log.sqlite"
    path.write_text("no database, but long enough to be looked at " * 50)
    with pytest.raises(PredictionLogError, match="is not a prediction log"):
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

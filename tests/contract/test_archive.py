"""One contract for the archive on SQLite and on PostgreSQL: what is written twice is there once, in any order."""

import itertools
import re
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from msgspec import Raw
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from inflight.settings import Settings
from machine_learning_engineering.events.schemas import RolloutArm
from machine_learning_engineering.events.topics import API_CALLS, LABELS, LOGS
from machine_learning_engineering.prediction_log.store import PredictionLogError
from monitoring.archive.database import ArchiveError, Database, describe, reason
from monitoring.archive.prediction_log import ArchivePredictionLog
from monitoring.archive.store import REFUSED, REPEATED, WRITTEN, Store
from monitoring.archive.tables import metadata
from tests.support.archive import AT, ask, call, label, logged
from tests.support.postgres import PASSWORD, PostgresNode

PAGE = Path(__file__).parents[2] / "docs" / "archive.md"


def test_the_migrations_make_what_the_code_declares(database: Database) -> None:
    """And nothing else: `alembic` finds no difference."""
    with database.reading() as connection:
        options = {"version_table": "inflight_archive_version"}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def test_processes_that_start_at_once_make_the_tables_once(archive_url: str) -> None:
    barrier = threading.Barrier(4)

    def start() -> int:
        database = Database(archive_url)
        barrier.wait(60)
        database.upgrade()
        found = ask(database, "SELECT COUNT(*) FROM predictions")
        database.close()
        return int(found[0][0])

    with ThreadPoolExecutor(4) as pool:
        assert [found.result() for found in [pool.submit(start) for _ in range(4)]] == [0] * 4


def test_tables_of_a_newer_release_are_left_alone(database: Database, archive_url: str) -> None:
    with database.writing() as connection:
        connection.execute(text("UPDATE inflight_archive_version SET version_num = '9999'"))
    with pytest.raises(ArchiveError, match="install a newer"):
        database.upgrade()
    with pytest.raises(PredictionLogError, match="install a newer"):
        ArchivePredictionLog(archive_url)


def test_writing_again_changes_nothing(database: Database, store: Store) -> None:
    rows = [logged("r1"), logged("r2", None), label(b"1", 0), call("c1", request_id="r1")]
    assert store.write(rows) == {(LOGS, WRITTEN): 2, (LABELS, WRITTEN): 1, (API_CALLS, WRITTEN): 1}
    everything = [ask(database, f"SELECT * FROM {name} ORDER BY 1") for name in ("predictions", "labels", "api_calls")]
    assert store.write(rows + rows) == {(LOGS, REPEATED): 4, (LABELS, REPEATED): 2, (API_CALLS, REPEATED): 2}
    assert everything == [
        ask(database, f"SELECT * FROM {name} ORDER BY 1") for name in ("predictions", "labels", "api_calls")
    ]
    assert store.write([]) == {}


@pytest.mark.parametrize("together", [True, False])
def test_the_first_outcome_stays_and_a_completed_one_replaces_a_failed_one(
    database: Database, store: Store, together: bool
) -> None:
    """Of the same request, as in the index."""
    other = Raw(b'{"carat": 9}')
    rows = [
        *(logged("first", 1.0), logged("first", 2.0)),
        *(logged("mended", None), logged("mended", 3.0)),
        *(logged("spoilt", 4.0), logged("spoilt", None)),
        *(logged("conflict", None), logged("conflict", 5.0, features=other)),
    ]
    for part in [rows] if together else [[row] for row in rows]:
        store.write(part)
    found = dict(ask(database, "SELECT request_id, CAST(prediction AS TEXT) FROM predictions"))
    assert {name: value and float(value[9:-1]) for name, value in found.items()} == {
        "first": 1.0,
        "mended": 3.0,
        "spoilt": 4.0,
        "conflict": None,
    }


@pytest.mark.parametrize("together", [True, False])
def test_the_label_observed_last_stays_whatever_the_order(database: Database, store: Store, together: bool) -> None:
    """Then the one reported last; also if it comes before its request."""
    labels = [label(b"1", 10), label(b"3", 20, 1), label(b"2", 20, 0), label(b"4", 20, 1)]
    for number, order in enumerate(itertools.permutations(labels)):
        rows = [
            row._replace(key=(f"r{number}", row.key[1]), values=row.values | {"request_id": f"r{number}"})
            for row in order
        ]
        for part in [rows] if together else [[row] for row in rows]:
            store.write(part)
    assert ask(database, "SELECT DISTINCT label_text FROM labels") == [("4",)]
    store.write([logged("r0"), label(b"9", 99, request_id="r0", model="titanic")])
    found = ask(database, "SELECT request_id, label_text FROM labelled_predictions")
    # A label for another model is none of this request.
    assert found == [("r0", "4")]


def test_a_row_that_the_database_refuses_is_left_out_alone(database: Database, store: Store) -> None:
    bad = logged("bad")
    bad = bad._replace(values=bad.values | {"outcome": None})
    rows = [logged(f"r{number}") for number in range(20)]
    results = store.write([*rows[:13], bad, *rows[13:], call("c1")])
    assert results == {(LOGS, WRITTEN): 20, (LOGS, REFUSED): 1, (API_CALLS, WRITTEN): 1}
    assert ask(database, "SELECT COUNT(*) FROM predictions") == [(20,)]


def test_old_rows_are_deleted_by_their_age(database: Database, store: Store) -> None:
    old = AT - timedelta(days=30)
    store.write([logged(f"old-{n}", accepted_at=old) for n in range(6_001)] + [logged("new")])
    store.write([label(b"1", 0), call("old", started_at=old), call("new")])
    assert [store.prune("predictions", AT) for _ in range(3)] == [5_000, 1_001, 0]
    assert [store.prune("api_calls", AT), store.prune("labels", AT)] == [1, 0]
    assert ask(database, "SELECT request_id FROM predictions") == [("new",)]
    assert ask(database, "SELECT call_id FROM api_calls") == [("new",)]


def test_json_is_read_by_the_database(database: Database, store: Store) -> None:
    """A value that it can't read again ends no query over the others."""
    store.write([logged("r1"), logged("r2", features=Raw(b'{"cut": "\\u0000"}')), logged("r3", features=Raw(b"[1]"))])
    found = ask(database, "SELECT request_id, features ->> 'cut' FROM predictions ORDER BY request_id")
    assert found == [("r1", "Ideal"), ("r2", None), ("r3", None)]
    [(sent,)] = ask(database, "SELECT CAST(features AS TEXT) FROM predictions WHERE request_id = 'r1'")
    assert sent == '{"carat": 0.230, "cut": "Ideal"}'


def test_times_keep_their_microseconds(database: Database, store: Store) -> None:
    moments = [AT, AT.replace(microsecond=1), datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)]
    store.write([logged(f"r{n}", requested_at=moment) for n, moment in enumerate(moments)])
    with database.reading() as connection:
        table = metadata.tables["predictions"]
        rows = connection.execute(table.select().order_by(table.c.request_id)).all()
    assert [row.requested_at for row in rows] == moments


def test_writers_at_the_same_time_lose_nothing(database: Database, store: Store) -> None:
    """The same rows in different orders, as two processes write them while partitions move."""
    rows = [logged(f"r{number}") for number in range(300)]
    with ThreadPoolExecutor(4) as pool:
        parts = [rows if number % 2 else rows[::-1] for number in range(8)]
        results = list(pool.map(store.write, parts))
    assert sum(found[LOGS, WRITTEN] for found in results) == 300
    assert ask(database, "SELECT COUNT(*) FROM predictions") == [(300,)]


def test_the_queries_of_the_docs_run(database: Database, store: Store) -> None:
    """On the database that each is for."""
    store.write([logged(f"r{n}") for n in range(5)] + [label(b"1.5", 0), call("c1", request_id="r1", model="diamonds")])
    kind = "PostgreSQL" if database.is_postgresql else "SQLite"
    queries = re.findall(r"```sql\n(?:-- (SQLite|PostgreSQL)\n)?(.*?)```", PAGE.read_text(), re.DOTALL)
    wanted = [query for only, query in queries if only in ("", kind)]
    assert len(wanted) >= 6
    for query in wanted:
        assert ask(database, query.replace(":request_id", "'r1'")), query


def test_errors_quote_no_password_and_no_row(postgres: PostgresNode) -> None:
    url = postgres.url("nowhere")
    with pytest.raises(PredictionLogError) as refused:
        ArchivePredictionLog(url)
    assert "nowhere" in str(refused.value)
    assert PASSWORD not in str(refused.value)
    assert "%3A" not in str(refused.value)
    database = Database(postgres.new_database())
    database.upgrade()
    with pytest.raises(SQLAlchemyError) as failed, database.writing() as connection:
        connection.execute(text("INSERT INTO labels VALUES ('a secret', 'm', 'no json', 'x', now(), now(), '')"))
    assert (describe(failed.value), reason(failed.value)) == ("InvalidTextRepresentation", "")
    database.close()


def test_a_database_in_another_encoding_is_refused(postgres: PostgresNode) -> None:
    url = postgres.new_database()
    first, latin = Database(url), Database(postgres.url("latin"))
    try:
        with first.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"))
        with pytest.raises(ArchiveError, match="encoding LATIN1"):
            latin.upgrade()
    finally:
        first.close()
        latin.close()


@pytest.mark.parametrize("url", ["mysql://db/x", "nonsense", "sqlite://", "sqlite:///", "postgresql://db:port/x"])
def test_a_malformed_address_names_the_setting(url: str) -> None:
    with pytest.raises(ArchiveError, match="INFLIGHT_ARCHIVE_URL"):
        Database(url)


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("postgresql://u:p@db.example/x", False),
        ("postgresql://u:p@db.example/x?sslmode=prefer", False),
        ("postgresql://u:p@db.example/x?sslmode=verify-full", True),
        ("postgresql://u:p@127.0.0.1/x", True),
        ("postgresql:///x?host=/run/postgresql", True),
        ("postgresql:///x?host=db.example", False),
        ("sqlite:////tmp/x", True),
    ],
)
def test_in_production_rows_are_encrypted_on_their_way(url: str, safe: bool) -> None:
    options = {"security.protocol": "SSL"}

    def settings() -> Settings:
        return Settings(_env_file=None, production=True, kafka_options=options, archive_url=url)  # type: ignore[call-arg]

    if safe:
        assert settings().archive_url == url
        return
    with pytest.raises(ValueError, match="sslmode=verify-full"):
        settings()


def test_the_password_is_in_no_representation() -> None:
    settings = Settings(_env_file=None, archive_url="postgresql://u:hidden@db/x")  # type: ignore[call-arg]
    assert "hidden" not in repr(settings)
    for address in ("u:hidden@db/x?sslpassword=hidden", "u:hid@den@db/x", "u:/hidden?@db/x", "u:a hidden@db/x"):
        assert Database(f"postgresql://{address}").shown == "postgresql://db/x"


def test_threads_share_the_store(store: Store) -> None:
    calls: list[Callable[[], object]] = [lambda: store.write([call("c1")]), lambda: store.prune("api_calls", AT)]
    with ThreadPoolExecutor(4) as pool:
        assert len([found.result() for found in [pool.submit(one) for one in calls * 10]]) == 20


def test_the_arm_of_a_rollout_is_kept(database: Database, store: Store) -> None:
    """Rows of one statement, with and without."""
    arm = RolloutArm("r-1", "challenger", "v1", "v2", "pepper", 5)
    assert store.write([logged("r1", rollout=arm), logged("r2")]) == {(LOGS, WRITTEN): 2}
    columns = "rollout_id, rollout_arm, rollout_champion, rollout_challenger, rollout_salt, rollout_percent"
    found = ask(database, f"SELECT {columns} FROM predictions ORDER BY request_id")
    assert [tuple(row) for row in found] == [("r-1", "challenger", "v1", "v2", "pepper", 5), (None,) * 6]
    store.write([label(b"1", 0)])
    assert [tuple(row) for row in ask(database, "SELECT rollout_arm FROM labelled_predictions")] == [("challenger",)]

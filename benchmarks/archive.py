"""How fast the archive writes: `python -m benchmarks.archive [URL]`; by default into a temporary SQLite file.

Log records become rows and are written in transactions of 2,000, into empty tables and then again, when all are there.
Beside it, in the same round, the bare driver writes the same rows, made before, into a table with the same indexes, in
transactions of the same size: by `executemany`, and by COPY on PostgreSQL. It neither decodes anything, nor takes a row
twice. The database must be empty; its table `bare` is dropped at the end.
"""

import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import Message
from sqlalchemy import text

from machine_learning_engineering.events.topics import LOGS
from monitoring.archive.database import Database
from monitoring.archive.rows import PROJECTIONS
from monitoring.archive.store import Store
from monitoring.archive.tables import predictions
from monitoring.settings import ArchiveSettings

RECORDS = 100_000
ROUNDS = 3
_SIZE: int = ArchiveSettings(_env_file=None).archive_batch_records  # type: ignore[call-arg]
_COLUMNS = [column.name for column in predictions.columns]
_NAMES = ", ".join(_COLUMNS)
_RECORD = (
    '{"type":"prediction.logged.v1","request_id":"0197a5c2f0a1b2c3d4e5f6-%08d","model":"diamonds","outcome":"completed",'
    '"features":{"carat":0.23,"cut":"Ideal","color":"E","clarity":"SI2","depth":61.5,"table":55.0,"x":3.95,"y":3.98,'
    '"z":2.43},"requested_at":"%s","accepted_at":"%s","completed_at":"%s","queue_seconds":0.001,"score_seconds":0.002,'
    '"total_seconds":0.004,"batch_size":7,"partition":1,"offset":%d,"model_version":"v3","prediction":{"price":326.5},'
    '"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}'
)


def records() -> list[Message]:
    now = datetime.now(UTC)
    at = now.isoformat()
    stamp = 2, int(now.timestamp() * 1000)
    return [
        Message(topic=LOGS, partition=0, offset=n, value=(_RECORD % (n, at, at, at, n)).encode(), timestamp=stamp)
        for n in range(RECORDS)
    ]


def parts(items: list[Any]) -> Iterator[list[Any]]:
    """The batches, each of which is one transaction."""
    return (items[start : start + _SIZE] for start in range(0, len(items), _SIZE))


def archive(store: Store, found: list[Message]) -> None:
    for part in parts(found):
        store.write([PROJECTIONS[LOGS].row(record) for record in part])


class Bare:
    """The driver alone, on a table like that of the archive.

    Args:
        database: with the tables of the archive.
        url: of it.
    """

    def __init__(self, database: Database, url: str) -> None:
        self._database = database
        self._url = url
        like = "(LIKE predictions INCLUDING ALL)"
        self.fill = (
            {"executemany": self._psycopg, "copy": self._copy}
            if database.is_postgresql
            else {"executemany": self._sqlite}
        )
        with database.writing() as connection:
            connection.execute(text("DROP TABLE IF EXISTS bare"))
            if database.is_postgresql:
                connection.execute(text(f"CREATE TABLE bare {like}"))
                return
            # SQLite keeps the statements that made a table and its indexes.
            made = "SELECT sql FROM sqlite_master WHERE tbl_name = 'predictions' AND sql IS NOT NULL AND type <> 'view'"
            for (sql,) in list(connection.execute(text(made))):
                connection.exec_driver_sql(sql.replace("predictions", "bare"))

    def empty(self) -> None:
        with self._database.writing() as connection:
            connection.execute(text("DELETE FROM bare"))

    def drop(self) -> None:
        with self._database.writing() as connection:
            connection.execute(text("DROP TABLE bare"))

    def _psycopg(self, rows: list[tuple[Any, ...]]) -> None:
        marks = ", ".join(["%s"] * len(_COLUMNS))
        with psycopg.connect(self._url) as connection:
            for part in parts(rows):
                connection.cursor().executemany(f"INSERT INTO bare ({_NAMES}) VALUES ({marks})".encode(), part)
                connection.commit()

    def _copy(self, rows: list[tuple[Any, ...]]) -> None:
        with psycopg.connect(self._url) as connection:
            for part in parts(rows):
                with connection.cursor().copy(f"COPY bare ({_NAMES}) FROM STDIN".encode()) as copy:
                    for row in part:
                        copy.write_row(row)
                connection.commit()

    def _sqlite(self, rows: list[tuple[Any, ...]]) -> None:
        plain = [tuple(str(value) if isinstance(value, datetime) else value for value in row) for row in rows]
        marks = ", ".join(["?"] * len(_COLUMNS))
        with closing(sqlite3.connect(self._url.removeprefix("sqlite:///"))) as connection:
            for part in parts(plain):
                connection.executemany(f"INSERT INTO bare ({_NAMES}) VALUES ({marks})", part)
                connection.commit()


def measure(call: Callable[[], None]) -> tuple[float, float]:
    """Records a second, and microseconds of CPU of this process for each."""
    started, cpu = time.perf_counter(), time.process_time()
    call()
    return RECORDS / (time.perf_counter() - started), 1e6 * (time.process_time() - cpu) / RECORDS


def run(url: str) -> None:
    found = records()
    rows = [PROJECTIONS[LOGS].row(record).values for record in found]
    plain = [tuple(row[name] for name in _COLUMNS) for row in rows]
    database = Database(url, timeout=120)
    database.upgrade()
    store, bare = Store(database), Bare(database, url)
    measured: dict[str, list[tuple[float, float]]] = {}

    def note(what: str, call: Callable[[], None]) -> None:
        measured.setdefault(what, []).append(measure(call))

    for _ in range(ROUNDS):
        with database.writing() as connection:
            connection.execute(text("DELETE FROM predictions"))
        note("archive, new rows", lambda: archive(store, found))
        note("archive, the same again", lambda: archive(store, found))
        for name, fill in bare.fill.items():
            bare.empty()
            note(f"bare {name}", lambda fill=fill: fill(plain))  # type: ignore[misc]
    note("rows from records, without a database", lambda: [PROJECTIONS[LOGS].row(one) for one in found] and None)
    bare.drop()
    database.close()
    for what, results in measured.items():
        rates = [rate for rate, _ in results]
        cpu = statistics.median(used for _, used in results)
        print(
            f"{what}: {statistics.median(rates):,.0f} records/s ({min(rates):,.0f} - {max(rates):,.0f}), {cpu:.0f} us"
        )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run(sys.argv[1] if len(sys.argv) > 1 else f"sqlite:///{Path(folder) / 'archive.sqlite'}")


if __name__ == "__main__":
    main()

"""A prediction log in one SQLite file. The log of a deployment is `monitoring.elastic.prediction_log`."""

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from machine_learning_engineering.core import sqlite
from machine_learning_engineering.core.timestamps import to_microseconds
from machine_learning_engineering.prediction_log.store import (
    NotLogged,
    PredictionLog,
    PredictionLogError,
    PredictionRecord,
    encode_label,
)

__all__ = ["SqlitePredictionLog"]


_SCHEMA_VERSION = 1
_SCHEMA = (
    "CREATE TABLE predictions (request_id TEXT PRIMARY KEY, model TEXT NOT NULL, version TEXT NOT NULL, "
    "created_at INTEGER NOT NULL, record BLOB NOT NULL, label BLOB) WITHOUT ROWID",
    "CREATE INDEX predictions_by_time ON predictions (model, created_at, request_id)",
    f"PRAGMA user_version = {_SCHEMA_VERSION}",
)
_PAGE = 1_000
_FIRST, _LAST = -(2**63), 2**63 - 1
_decode = msgspec.json.Decoder(PredictionRecord).decode


class SqlitePredictionLog(PredictionLog, AbstractContextManager["SqlitePredictionLog"]):
    """A log in one SQLite file, created if missing. Threads and processes may share it.

    Args:
        path: The file; SQLite keeps two more next to it. It must not be on a network file system.
        timeout: Seconds that a write waits for other processes.

    Raises:
        PredictionLogError: The file can't be opened, is not a log, or was written by a newer version of this package.
    """

    def __init__(self, path: Path, *, timeout: float = 30.0) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            self._connection = sqlite.connect(path, timeout=timeout)
        except (OSError, sqlite3.OperationalError) as error:
            raise PredictionLogError(f"the prediction log {path} can't be opened: {error}") from error
        except sqlite3.Error as error:
            raise PredictionLogError(f"{path} is not a prediction log: {error}") from error
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        with self._writing() as connection:
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            if found > _SCHEMA_VERSION:
                raise PredictionLogError(
                    f"the prediction log {self.path} has schema version {found}, this package knows {_SCHEMA_VERSION}: "
                    "install a newer version"
                )
            if found == 0:
                for statement in _SCHEMA:
                    connection.execute(statement)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Open a write transaction; it is rolled back if the block raises."""
        try:
            with sqlite.transaction(self._connection, self._lock) as connection:
                yield connection
        except sqlite3.Error as error:
            raise PredictionLogError(f"the prediction log {self.path} can't be written: {error}") from error

    def append(self, records: Iterable[PredictionRecord]) -> int:
        """See `PredictionLog.append`."""
        lines = [
            (
                record.request_id,
                record.model,
                record.model_version,
                to_microseconds(record.created_at),
                msgspec.json.encode(msgspec.structs.replace(record, label=UNSET, label_source=UNSET)),
                None if record.label is UNSET else bytes(record.label),
            )
            for record in records
        ]
        with self._writing() as connection:
            before = connection.total_changes
            connection.executemany("INSERT OR IGNORE INTO predictions VALUES (?, ?, ?, ?, ?, ?)", lines)
            return connection.total_changes - before

    def read(
        self,
        model: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        version: str | None = None,
    ) -> Iterator[PredictionRecord]:
        """See `PredictionLog.read`. It may include records that are appended while it runs."""
        start = _FIRST if since is None else to_microseconds(since)
        end = _LAST if until is None else to_microseconds(until)
        query = "SELECT created_at, request_id, record, label FROM predictions WHERE model = ? AND created_at < ?"
        query += " AND (created_at, request_id) > (?, ?)" + ("" if version is None else " AND version = ?")
        query += f" ORDER BY created_at, request_id LIMIT {_PAGE}"
        # No request id is empty, so this pair sorts before all records of its time.
        after = (start, "")
        while True:
            arguments = (model, end, *after) if version is None else (model, end, *after, version)
            try:
                with self._lock:
                    page = self._connection.execute(query, arguments).fetchall()
            except sqlite3.Error as error:
                raise PredictionLogError(f"the prediction log {self.path} can't be read: {error}") from error
            for created_at, request_id, record, label in page:
                after = (created_at, request_id)
                try:
                    logged = _decode(record)
                except (ValueError, RecursionError, TypeError) as error:
                    what = f"request {request_id!r:.300} is damaged ({type(error).__name__})"
                    raise PredictionLogError(f"the prediction log {self.path} can't be read: {what}") from error
                yield logged if label is None else msgspec.structs.replace(logged, label=Raw(label))
            if len(page) < _PAGE:
                return

    def label(self, request_id: str, label: Any) -> None:
        """See `PredictionLog.label`."""
        encoded = encode_label(label)
        with self._writing() as connection:
            changed = connection.execute(
                "UPDATE predictions SET label = ? WHERE request_id = ?", (encoded, request_id)
            ).rowcount
        if not changed:
            raise NotLogged(f"request {request_id!r} is not in the prediction log {self.path}")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __exit__(self, *exception: object) -> None:
        self.close()

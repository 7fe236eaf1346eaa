"""A prediction log in one SQLite file. The log of a deployment is `monitoring.elastic.prediction_log`."""

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import msgspec
from msgspec import UNSET, Raw

from machine_learning_engineering.core.timestamps import to_microseconds
from machine_learning_engineering.prediction_log.store import (
    NotLogged,
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


class SqlitePredictionLog:
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
            path.parent.mkdir(parents=True, exist_ok=True)
            # Transactions are opened by hand.
            self._connection = sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise PredictionLogError(f"the prediction log {path} can't be opened: {error}") from error
        try:
            self._prepare(timeout)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                # SQLite does not wait by itself here if another process switches the new file to WAL just now.
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise PredictionLogError(f"the prediction log {self.path} can't be opened: {error}") from error
                time.sleep(0.01)
            except sqlite3.Error as error:
                raise PredictionLogError(f"{self.path} is no prediction log: {error}") from error
        # Every commit is synced: what was appended outlives the machine's fall.
        self._connection.execute("PRAGMA synchronous = FULL")
        with _Writing(self) as connection:
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            if found > _SCHEMA_VERSION:
                raise PredictionLogError(
                    f"the prediction log {self.path} has schema version {found}, this package knows {_SCHEMA_VERSION}: "
                    "install a newer machine-learning-engineering"
                )
            if found == 0:
                for statement in _SCHEMA:
                    connection.execute(statement)

    def append(self, records: Iterable[PredictionRecord]) -> int:
        """See `PredictionLog.append`."""
        lines = [
            (
                record.request_id,
                record.model,
                record.model_version,
                to_microseconds(record.created_at),
                msgspec.json.encode(msgspec.structs.replace(record, label=UNSET)),
                None if record.label is UNSET else bytes(record.label),
            )
            for record in records
        ]
        with _Writing(self) as connection:
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
                logged = _decode(record)
                yield logged if label is None else msgspec.structs.replace(logged, label=Raw(label))
            if len(page) < _PAGE:
                return

    def label(self, request_id: str, label: Any) -> None:
        """See `PredictionLog.label`."""
        encoded = encode_label(label)
        with _Writing(self) as connection:
            changed = connection.execute(
                "UPDATE predictions SET label = ? WHERE request_id = ?", (encoded, request_id)
            ).rowcount
        if not changed:
            raise NotLogged(f"request {request_id!r} is not in the prediction log {self.path}")

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class _Writing:
    """A transaction of one thread at a time; undone if anything is raised in it."""

    def __init__(self, log: SqlitePredictionLog) -> None:
        self._log = log

    def __enter__(self) -> sqlite3.Connection:
        self._log._lock.acquire()
        try:
            self._log._connection.execute("BEGIN IMMEDIATE")
        except BaseException as error:
            self._log._lock.release()
            raise self._explained(error) from error
        return self._log._connection

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        connection = self._log._connection
        try:
            if error is None:
                connection.execute("COMMIT")
        except sqlite3.Error as failed:
            error = failed
            raise self._explained(failed) from failed
        finally:
            if error is not None and connection.in_transaction:
                connection.execute("ROLLBACK")
            self._log._lock.release()
        if isinstance(error, sqlite3.Error):
            raise self._explained(error) from error

    def _explained(self, error: BaseException) -> BaseException:
        if isinstance(error, sqlite3.Error):
            return PredictionLogError(f"the prediction log {self._log.path} can't be written: {error}")
        return error

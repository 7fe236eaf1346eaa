"""The latest values of each key, in one SQLite file. It can be made anew from the parquet files."""

import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path

from machine_learning_engineering.feature_store.offline import FeatureStoreError

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS online (view TEXT, key TEXT, at INTEGER NOT NULL, record BLOB NOT NULL, "
    "PRIMARY KEY (view, key)) WITHOUT ROWID"
)
_PUT = (
    "INSERT INTO online VALUES (?, ?, ?, ?) ON CONFLICT (view, key) DO UPDATE "
    "SET at = excluded.at, record = excluded.record WHERE excluded.at >= online.at"
)


class OnlineStore:
    """One file; threads and processes share it. Times are microseconds since 1970, records JSON texts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            self._connection = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(_SCHEMA)
        except sqlite3.Error as error:
            raise FeatureStoreError(f"the online features {path} can't be opened: {error}") from error

    def put(self, view: str, latest: Mapping[str, tuple[int, bytes]]) -> None:
        """Take over time and record of each key, unless a later one is there."""
        with self._lock:
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.executemany(_PUT, ((view, key, at, record) for key, (at, record) in latest.items()))
                self._connection.execute("COMMIT")
            except sqlite3.Error as error:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise FeatureStoreError(f"the online features {self.path} can't be written: {error}") from error

    def get(self, view: str, key: str) -> tuple[int, bytes] | None:
        """Time and record of a key."""
        found = self._one("SELECT at, record FROM online WHERE view = ? AND key = ?", view, key)
        return None if found is None else (found[0], found[1])

    def count(self, view: str) -> int:
        """How many keys a view has."""
        found = self._one("SELECT count(*) FROM online WHERE view = ?", view)
        return 0 if found is None else found[0]

    def drop(self, view: str) -> None:
        """Forget a view."""
        self._one("DELETE FROM online WHERE view = ?", view)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _one(self, statement: str, *arguments: str) -> tuple[int, bytes] | None:
        with self._lock:
            try:
                found: tuple[int, bytes] | None = self._connection.execute(statement, arguments).fetchone()
            except sqlite3.Error as error:
                raise FeatureStoreError(f"the online features {self.path} can't be used: {error}") from error
        return found

"""Online store: the latest values of each key, in one SQLite file. The parquet files can rebuild it."""

import sqlite3
import threading
from collections.abc import Mapping
from pathlib import Path

from machine_learning_engineering.core import sqlite
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
    """A file that threads and processes share. Times are microseconds since 1970; records are JSON."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        try:
            self._connection = sqlite.connect(path)
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(_SCHEMA)
        except sqlite3.Error as error:
            raise FeatureStoreError(f"the online features {path} can't be opened: {error}") from error

    def put(self, view: str, latest: Mapping[str, tuple[int, bytes]]) -> None:
        """Set the time and record of each key unless the stored one is later."""
        try:
            with sqlite.transaction(self._connection, self._lock) as connection:
                connection.executemany(_PUT, ((view, key, at, record) for key, (at, record) in latest.items()))
        except sqlite3.Error as error:
            raise FeatureStoreError(f"the online features {self.path} can't be written: {error}") from error

    def get(self, view: str, key: str) -> tuple[int, bytes] | None:
        """The time and record of a key, or None."""
        found = self._one("SELECT at, record FROM online WHERE view = ? AND key = ?", view, key)
        return None if found is None else (found[0], found[1])

    def count(self, view: str) -> int:
        """The number of keys of a view."""
        found = self._one("SELECT count(*) FROM online WHERE view = ?", view)
        return 0 if found is None else found[0]

    def drop(self, view: str) -> None:
        """Delete all keys of a view."""
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

"""Online store: the latest values of each key, in one SQLite file. The parquet files can rebuild it."""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from machine_learning_engineering.core import sqlite
from machine_learning_engineering.feature_store.offline import FeatureStoreError

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS online (view TEXT, key TEXT, at INTEGER NOT NULL, record BLOB NOT NULL, "
    "PRIMARY KEY (view, key)) WITHOUT ROWID",
    # The lines of files of examples; and under the key '', the size of the file and the number of its lines.
    "CREATE TABLE IF NOT EXISTS lines (file TEXT, key TEXT, digest BLOB NOT NULL, PRIMARY KEY (file, key)) "
    "WITHOUT ROWID",
)
_PAIRS = (
    "SELECT one.key, one.at, one.record, other.record FROM online one "
    "JOIN online other ON other.view = ? AND other.key = one.key WHERE one.view = ?{} ORDER BY one.at, one.key"
)
_CHUNK = 500
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
            for statement in _SCHEMA:
                self._connection.execute(statement)
        except (OSError, sqlite3.Error) as error:
            raise FeatureStoreError(f"the online features {path} can't be opened: {error}") from error

    def put(self, view: str, latest: Mapping[str, tuple[int, bytes]]) -> None:
        """Set the time and record of each key unless the stored one is later."""
        with self._writing() as connection:
            connection.executemany(_PUT, ((view, key, at, record) for key, (at, record) in latest.items()))

    def replace(self, view: str, latest: Mapping[str, tuple[int, bytes]]) -> None:
        """Set all keys of a view at once: a reader sees those before or those after."""
        with self._writing() as connection:
            connection.execute("DELETE FROM online WHERE view = ?", (view,))
            connection.executemany(_PUT, ((view, key, at, record) for key, (at, record) in latest.items()))

    def pairs(self, view: str, other: str, keys: Iterable[str] | None = None) -> list[tuple[str, int, bytes, bytes]]:
        """Key, time and record of each key of `view` that `other` has too, with its record there, by time and key."""
        if keys is None:
            return self._all(_PAIRS.format(""), other, view)
        found: list[tuple[str, int, bytes, bytes]] = []
        for chunk in _chunks(keys):
            marks = f" AND one.key IN ({', '.join('?' * len(chunk))})"
            found += self._all(_PAIRS.format(marks), other, view, *chunk)
        return sorted(found, key=lambda pair: (pair[1], pair[0]))

    def lines(self, file: str, keys: Iterable[str]) -> dict[str, bytes]:
        """Digests of the lines that a file of examples has for the keys."""
        found: dict[str, bytes] = {}
        for chunk in _chunks(keys):
            marks = ", ".join("?" * len(chunk))
            found |= dict(
                self._all(f"SELECT key, digest FROM lines WHERE file = ? AND key IN ({marks})", file, *chunk)  # noqa: S608
            )
        return found

    def set_lines(self, file: str, digests: Mapping[str, bytes], *, replace: bool) -> None:
        """Record lines of a file of examples, in addition to the others or instead of all of them."""
        with self._writing() as connection:
            if replace:
                connection.execute("DELETE FROM lines WHERE file = ?", (file,))
            rows = ((file, key, digest) for key, digest in digests.items())
            connection.executemany("INSERT OR REPLACE INTO lines VALUES (?, ?, ?)", rows)

    def get(self, view: str, key: str) -> tuple[int, bytes] | None:
        """The time and record of a key, or None."""
        found = self._one("SELECT at, record FROM online WHERE view = ? AND key = ?", view, key)
        return None if found is None else (found[0], found[1])

    def count(self, view: str) -> int:
        """The number of keys of a view."""
        found = self._one("SELECT count(*) FROM online WHERE view = ?", view)
        return 0 if found is None else found[0]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        try:
            with sqlite.transaction(self._connection, self._lock) as connection:
                yield connection
        except sqlite3.Error as error:
            raise FeatureStoreError(f"the online features {self.path} can't be written: {error}") from error

    def _all(self, statement: str, *arguments: str) -> list[Any]:
        with self._lock:
            try:
                return self._connection.execute(statement, arguments).fetchall()
            except sqlite3.Error as error:
                raise FeatureStoreError(f"the online features {self.path} can't be used: {error}") from error

    def _one(self, statement: str, *arguments: str) -> tuple[int, bytes] | None:
        return next(iter(self._all(statement, *arguments)), None)


def _chunks(keys: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(keys)
    while chunk := list(islice(remaining, _CHUNK)):
        yield chunk

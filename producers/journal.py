"""The dead letters that were replayed: a small JSON Lines file, synced to disk."""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from machine_learning_engineering.core import files


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """A replayed dead letter. Its time distinguishes it from one at the same offset of a recreated topic."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    replayed_at: datetime


Position = tuple[str, int, int, int]
"""Topic, partition, offset and timestamp (ms) of a dead letter."""


class JournalInUse(Exception):
    """Another replay of dead letters has locked the journal."""


class Journal:
    """The positions of the dead letters that were replayed from this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._positions: set[Position] = set()
        for line in path.read_bytes().splitlines() if path.exists() else ():
            try:
                entry = msgspec.json.decode(line, type=Entry)
            except (ValueError, RecursionError):
                # A line truncated by a crash: its letter may be replayed a second time, which is harmless.
                continue
            self._positions.add((entry.topic, entry.partition, entry.offset, entry.timestamp_ms))

    def __contains__(self, position: Position) -> bool:
        return position in self._positions

    def add(self, positions: Iterable[Position]) -> None:
        """Record positions as replayed; they are on disk when this returns."""
        now = datetime.now(UTC)
        lines = [msgspec.json.encode(Entry(*position, now)) + b"\n" for position in positions]
        if lines:
            files.append(self._path, b"".join(lines))


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """The journal at `path`, locked for this process.

    Raises:
        JournalInUse: another process has it open.
    """
    files.make_folder(path.parent)
    descriptor = files.open_private(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT)
    with os.fdopen(descriptor, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise JournalInUse(
                f"another replay of dead letters is running (it holds {path.with_suffix('.lock')})"
            ) from error
        yield Journal(path)

"""Which dead letters were replayed already: a small file of JSON lines, synced to the disk."""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from msgspec import Struct


class Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """A dead letter that was replayed. Its time tells it from one at the same place of a topic that was made anew."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    replayed_at: datetime


Place = tuple[str, int, int, int]
"""Topic, partition, offset and time (ms) of a dead letter."""


class JournalInUse(Exception):
    """Another replay of dead letters holds the journal."""


class Journal:
    """The places of the dead letters that were replayed from this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: set[Place] = set()
        for line in path.read_bytes().splitlines() if path.exists() else ():
            try:
                entry = msgspec.json.decode(line, type=Entry)
            except msgspec.DecodeError:
                # The line that a crash cut short: its letters may be replayed a second time, which does no harm.
                continue
            self._places.add((entry.topic, entry.partition, entry.offset, entry.timestamp_ms))

    def __contains__(self, place: Place) -> bool:
        return place in self._places

    def add(self, places: Iterable[Place]) -> None:
        """Note `places` as replayed; on the disk when this returns."""
        now = datetime.now(UTC)
        lines = [msgspec.json.encode(Entry(*place, now)) + b"\n" for place in places]
        if not lines:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as stream:
            # A line that was cut short must not swallow the next one.
            stream.write(b"".join([b"\n" if stream.tell() and not self._ends_a_line() else b"", *lines]))
            stream.flush()
            os.fsync(stream.fileno())

    def _ends_a_line(self) -> bool:
        with self._path.open("rb") as stream:
            stream.seek(-1, os.SEEK_END)
            return stream.read(1) == b"\n"


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """The journal at `path`, for this process alone.

    Raises:
        JournalInUse: another process has it open.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise JournalInUse(f"another replay of dead letters is running (it holds {lock.name})") from error
        yield Journal(path)

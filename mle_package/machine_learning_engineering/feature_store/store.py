"""A small feature store: what was known of whom, and when.

Offline, values are rows of parquet files by key and event time, never changed, only added to. `join` answers what was
known at a moment, and never more. Online, the latest values of each key are one look-up away, in SQLite.

On disk: ``<path>/offline/<view>/<day>/<time of writing>-<id>.parquet`` and ``<path>/online.sqlite``, which
`refresh_online` makes anew from the files.
"""

import fcntl
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Generic, NamedTuple, Self, TypeVar

import msgspec
import numpy as np
from msgspec import Raw, Struct

from machine_learning_engineering.feature_store import offline as parquet
from machine_learning_engineering.feature_store.online import OnlineStore
from machine_learning_engineering.feature_store.point_in_time import as_of

__all__ = ["FeatureRow", "FeatureStore", "FeatureView", "ViewSummary"]

F = TypeVar("F", bound=Struct)
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,127}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class FeatureView(Generic[F]):
    """A named group of features that are known together, such as those of a customer.

    Later, `Features` may gain fields that have a default. Values older than `ttl` count as not known.
    """

    name: str
    Features: type[F]
    ttl: timedelta | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name[:128]!r} is not the name of a view: use a-z, 0-9, `-`, `_` and `.`")


class FeatureRow(NamedTuple, Generic[F]):
    """What became known of `key` at the moment `at`, which has an offset."""

    key: str
    at: datetime
    features: F


class ViewSummary(Struct, frozen=True):
    """What the store holds of a view; `first` and `last` are event times."""

    view: str
    rows: int
    files: int
    bytes: int
    first: datetime
    last: datetime
    online_keys: int


class FeatureStore:
    """The store below one folder. Several threads and processes may use it at once.

    Raises:
        FeatureStoreError: files can't be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offline = path / "offline"
        path.mkdir(parents=True, exist_ok=True)
        self._online = OnlineStore(path / "online.sqlite")

    def write(self, view: FeatureView[F], rows: Iterable[FeatureRow[F]]) -> int:
        """Add rows, safely on disk when this returns; how many were new.

        Of two with one key and time the one that was written later counts. A row that says the same as the one that
        counts is left out, so that writing again after an error is safe.

        Raises:
            ValueError: a time has no offset, or a key is empty.
            FeatureStoreError: see the class; what was written until then stays.
        """
        days: dict[str, list[parquet.StoredRow]] = {}
        latest: dict[str, tuple[int, bytes]] = {}
        for row in rows:
            stored = _stored(row)
            days.setdefault(f"{row.at.astimezone(UTC):%Y-%m-%d}", []).append(stored)
            if stored.key not in latest or latest[stored.key][0] <= stored.at:
                latest[stored.key] = stored.at, stored.record
        new = 0
        with self.exclusively(view):
            for day, found in sorted(days.items()):
                new += parquet.add(self._offline / view.name / day, view.Features, found)
            # After the files, which can always make it anew.
            self._online.put(view.name, latest)
        return new

    def join(self, view: FeatureView[F], moments: Sequence[tuple[str, datetime]]) -> list[F | None]:
        """For each key and moment what was known of the key then: its latest values at that moment or before.

        None where nothing was known, or only what was older than the view's `ttl`.
        """
        if not moments:
            return []
        times = np.array([_microseconds(at) for _, at in moments], dtype=np.int64)
        last_day = (_EPOCH + int(times.max()) * _MICROSECOND).date().isoformat()
        table = parquet.read(self._days(view, until=last_day), view.Features)
        ttl = None if view.ttl is None else view.ttl // _MICROSECOND
        chosen = as_of(table.keys, table.times, [key for key, _ in moments], times, ttl)
        return [None if index < 0 else table.features(index) for index in chosen.tolist()]

    def online(self, view: FeatureView[F], key: str, *, now: datetime | None = None) -> FeatureRow[F] | None:
        """The latest values of a key; None if there are none, or if at `now` they are older than the view's `ttl`."""
        if (found := self._online.get(view.name, key)) is None:
            return None
        at = _EPOCH + found[0] * _MICROSECOND
        if view.ttl is not None and (now or datetime.now(UTC)) - at > view.ttl:
            return None
        return FeatureRow(key, at, parquet.decode(found[1], view.Features))

    def latest(self, view: str, key: str) -> tuple[datetime, Raw] | None:
        """The latest values of a key as JSON, with their time, for who has only the view's name."""
        found = self._online.get(view, key)
        return None if found is None else (_EPOCH + found[0] * _MICROSECOND, Raw(found[1]))

    def history(self, view: FeatureView[F]) -> Iterator[FeatureRow[F]]:
        """Every row of a view, oldest first; of one key and time in the order of writing."""
        table = parquet.read(self._days(view), view.Features)
        for index in np.argsort(table.times, kind="stable").tolist():
            at = _EPOCH + int(table.times[index]) * _MICROSECOND
            yield FeatureRow(table.keys[index], at, table.features(index))

    def refresh_online(self, view: FeatureView[Any]) -> int:
        """Make the online values of a view anew from the files; how many keys there are."""
        with self.exclusively(view):
            latest: dict[str, tuple[int, bytes]] = {}
            for row in self.history(view):
                stored = _stored(row)
                latest[stored.key] = stored.at, stored.record
            self._online.drop(view.name)
            self._online.put(view.name, latest)
        return len(latest)

    @contextmanager
    def exclusively(self, view: FeatureView[Any]) -> Iterator[None]:
        """Let nobody else write a view meanwhile. The block must not write it either: it would wait for itself."""
        folder = self._offline / view.name
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def summaries(self) -> list[ViewSummary]:
        """What there is, by view."""
        found = []
        for folder in sorted(self._offline.glob("*/")):
            files = sorted(folder.glob("*/*.parquet"))
            if not files:
                continue
            rows, first, last = parquet.extent(files)
            size = sum(file.stat().st_size for file in files)
            keys = self._online.count(folder.name)
            found.append(ViewSummary(folder.name, rows, len(files), size, first, last, keys))
        return found

    def close(self) -> None:
        """Close the online file; the store can't be used afterwards."""
        self._online.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _days(self, view: FeatureView[Any], *, until: str | None = None) -> list[Path]:
        """The files of a view by day, those of a day in the order of writing."""
        folders = sorted((self._offline / view.name).glob("*/"))
        return [file for day in folders if until is None or day.name <= until for file in sorted(day.glob("*.parquet"))]


def _stored(row: FeatureRow[Any]) -> parquet.StoredRow:
    if not row.key:
        raise ValueError("a row has an empty key")
    # Through the bytes and back, so that what does not fit the view's Struct is found here.
    return parquet.StoredRow(row.key, _microseconds(row.at), msgspec.json.encode(row.features))


def _microseconds(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no offset: give an aware datetime, such as datetime.now(UTC)")
    return (moment - _EPOCH) // _MICROSECOND

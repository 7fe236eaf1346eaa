"""A small feature store: feature values by key and event time.

Offline, values are rows of append-only parquet files; `join` returns the values known at a time and never later ones.
Online, SQLite holds the latest values of each key.

On disk: ``<path>/offline/<view>/<day>/*.parquet`` (see `offline`) and ``<path>/online.sqlite``, which `rebuild_online`
derives from the files.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
import numpy as np
from msgspec import Raw, Struct

from machine_learning_engineering.core import files
from machine_learning_engineering.core.timestamps import from_microseconds, to_microseconds
from machine_learning_engineering.feature_store import offline, point_in_time
from machine_learning_engineering.feature_store.offline import FeatureStoreError
from machine_learning_engineering.feature_store.online import OnlineStore

__all__ = ["FeatureRow", "FeatureStore", "FeatureView", "ViewSummary"]

F = TypeVar("F", bound=Struct)
T = TypeVar("T")
_MAX_READS = 10
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,127}")


@dataclass(frozen=True)
class FeatureView(Generic[F]):
    """A named group of features that become known together, such as those of a customer.

    `Features` may gain fields with a default later. Values older than `ttl` count as unknown.
    """

    name: str
    Features: type[F]
    ttl: timedelta | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name[:128]!r} is not the name of a view: use a-z, 0-9, `-`, `_` and `.`")


class FeatureRow(NamedTuple, Generic[F]):
    """Feature values of `key`, known since `at` (timezone-aware)."""

    key: str
    at: datetime
    features: F


class ViewSummary(Struct, frozen=True):
    """Contents of a view; `first` and `last` are event times."""

    view: str
    rows: int
    files: int
    bytes: int
    first: datetime
    last: datetime
    online_keys: int


class FeatureStore(AbstractContextManager["FeatureStore"]):
    """A feature store in one folder. Threads and processes may share it.

    Raises:
        FeatureStoreError: A file can't be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offline = path / "offline"
        files.make_folder(path)
        self.online_store = OnlineStore(path / "online.sqlite")

    def write(self, view: FeatureView[F], rows: Iterable[FeatureRow[F]]) -> int:
        """Add rows. They are synced to disk when this returns.

        Of two rows with the same key and time the one written later counts. A row equal to the current one is skipped,
        so a write may be retried.

        Returns:
            The number of new rows.

        Raises:
            ValueError: A time has no offset, or a key is empty.
            FeatureStoreError: See the class. Rows written before the error remain.
        """
        days: dict[str, list[offline.StoredRow]] = {}
        latest: dict[str, tuple[int, bytes]] = {}
        for row in rows:
            stored = _stored(row)
            days.setdefault(f"{row.at.astimezone(UTC):%Y-%m-%d}", []).append(stored)
            if stored.key not in latest or latest[stored.key][0] <= stored.at:
                latest[stored.key] = stored.at, stored.record
        new = 0
        with self.lock(view):
            for day, found in sorted(days.items()):
                folder = self._offline / view.name / day
                is_new = not folder.exists()
                new += offline.add(folder, view.Features, found)
                if is_new:
                    # The others are past, as a rule.
                    for other in folder.parent.glob("*/"):
                        if other != folder:
                            offline.compact(other)
            # Last, because the files can rebuild it.
            self.online_store.put(view.name, latest)
        return new

    def join(self, view: FeatureView[F], as_of: Sequence[tuple[str, datetime]]) -> list[F | None]:
        """The latest values at or before each (key, time), in order; None if there are none within the view's `ttl`."""
        if not as_of:
            return []
        times = np.array([to_microseconds(at) for _, at in as_of], dtype=np.int64)
        last_day = from_microseconds(int(times.max())).date().isoformat()
        table = self._read(lambda: offline.read(self._days(view, until=last_day), view.Features))
        ttl = None if view.ttl is None else view.ttl // timedelta(microseconds=1)
        chosen = point_in_time.as_of(table.keys, table.times, [key for key, _ in as_of], times, ttl)
        return [None if index < 0 else table.features(index) for index in chosen.tolist()]

    def online(self, view: FeatureView[F], key: str, *, now: datetime | None = None) -> FeatureRow[F] | None:
        """The latest values of a key; None if there are none within the view's `ttl` at `now`."""
        if (found := self.online_store.get(view.name, key)) is None:
            return None
        at = from_microseconds(found[0])
        if view.ttl is not None and (now or datetime.now(UTC)) - at > view.ttl:
            return None
        return FeatureRow(key, at, offline.decode(found[1], view.Features))

    def latest(self, view: str, key: str) -> tuple[datetime, Raw] | None:
        """The time and the latest values of a key as JSON, for callers without the view's Struct."""
        found = self.online_store.get(view, key)
        return None if found is None else (from_microseconds(found[0]), Raw(found[1]))

    def history(self, view: FeatureView[F]) -> Iterator[FeatureRow[F]]:
        """Yield every row of a view by event time, rows with the same time in order of writing."""
        table = self._read(lambda: offline.read(self._days(view), view.Features))
        for index in np.argsort(table.times, kind="stable").tolist():
            at = from_microseconds(int(table.times[index]))
            yield FeatureRow(table.keys[index], at, table.features(index))

    def rebuild_online(self, view: FeatureView[Any]) -> int:
        """Rebuild the online values of a view from the files. Returns the number of keys."""
        with self.lock(view):
            latest: dict[str, tuple[int, bytes]] = {}
            for row in self.history(view):
                stored = _stored(row)
                latest[stored.key] = stored.at, stored.record
            self.online_store.replace(view.name, latest)
        return len(latest)

    def repair_online(self, view: FeatureView[Any]) -> None:
        """Rebuild the online values of a view that has none, although there are files: its file was removed."""
        if self._days(view) and not self.online_store.count(view.name):
            self.rebuild_online(view)

    @contextmanager
    def lock(self, view: FeatureView[Any]) -> Iterator[None]:
        """Lock a view against writes. Not reentrant: writing the view inside the block deadlocks."""
        with files.lock(self._offline / view.name):
            yield

    def summaries(self) -> list[ViewSummary]:
        """Summarize each view that has rows, by name."""
        folders = [folder for folder in sorted(self._offline.glob("*/")) if any(folder.glob("*/*.parquet"))]
        return [self._read(partial(self._summary, folder)) for folder in folders]

    def _summary(self, folder: Path) -> ViewSummary:
        found = [file for day in sorted(folder.glob("*/")) for file in offline.data_files(day)]
        rows, first, last = offline.extent(found)
        size = sum(file.stat().st_size for file in found)
        return ViewSummary(folder.name, rows, len(found), size, first, last, self.online_store.count(folder.name))

    def close(self) -> None:
        """Close the online store."""
        self.online_store.close()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _days(self, view: FeatureView[Any], *, until: str | None = None) -> list[Path]:
        """The files of a view by day and time of writing."""
        folders = sorted((self._offline / view.name).glob("*/"))
        return [file for day in folders if until is None or day.name <= until for file in offline.data_files(day)]

    def _read(self, read: Callable[[], T]) -> T:
        """Call a function that lists files and reads them, again if a merge has removed one in between."""
        for _ in range(_MAX_READS):
            try:
                return read()
            except FeatureStoreError as error:
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise
            except FileNotFoundError:
                continue
        return read()


def _stored(row: FeatureRow[Any]) -> offline.StoredRow:
    if not row.key:
        raise ValueError("a row has an empty key")
    return offline.StoredRow(row.key, to_microseconds(row.at), msgspec.json.encode(row.features))

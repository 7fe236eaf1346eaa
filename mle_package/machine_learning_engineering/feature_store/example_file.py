"""The file of a model's examples: each labelled request of a store, one line each.

New examples are appended, so that the cost of a write depends on what is new, not on the size of the file. The file is
rewritten only if a label or a request that it already holds has changed, and when a process first writes it.
"""

from collections.abc import Iterable
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from machine_learning_engineering.core import files as durable
from machine_learning_engineering.core.timestamps import from_microseconds
from machine_learning_engineering.feature_store import offline
from machine_learning_engineering.feature_store.online import OnlineStore
from machine_learning_engineering.feature_store.store import FeatureView

_STATE = ""
"""Key of the size of the file and the number of its lines. No request id is empty."""


class LabelValue(Struct, frozen=True):
    """A label as the store holds it."""

    label: Any


class _Line(Struct):
    features: Any
    label: Any
    request_id: str
    observed_at: datetime


class ExampleFile:
    """The examples of one model in `path`. Several processes may update it.

    Features and labels are joined by request id alone: the features of a request never change, so its label may have
    any time, even one before the request: a clock may be slow, or a history replayed.

    Args:
        online: The store's latest values.
        path: The file; its folder is created if it is missing.
        requests: View of the requests.
        labels: View of their labels.
    """

    def __init__(
        self, online: OnlineStore, path: Path, requests: FeatureView[Any], labels: FeatureView[LabelValue]
    ) -> None:
        self._online = online
        self._path = path
        self._file = str(path.absolute())
        self._requests = requests
        self._labels = labels

    def update(self, keys: Iterable[str] | None) -> int:
        """Write the examples of requests that have changed in the store, or of all of them.

        The file is not created without an example.

        Args:
            keys: Ids of the requests; None for all.

        Returns:
            The number of examples in the file.

        Raises:
            FeatureStoreError: The store can't be read, or stored values do not fit the model.
        """
        # Of two writers, the one that read the store first must not be the last to replace the file.
        with durable.lock(self._path.parent):
            count = None if keys is None else self._append(set(keys))
            return self._rewrite() if count is None else count

    def _append(self, keys: set[str]) -> int | None:
        """Append the new ones; None if that is not enough."""
        state = self._online.lines(self._file, [_STATE])
        size, count = msgspec.json.decode(state[_STATE], type=tuple[int, int]) if state else (0, 0)
        if size != self._size():
            # A writer was killed between the file and its record, or somebody changed the file.
            return None
        lines = self._lines(keys)
        known = self._online.lines(self._file, lines)
        if any(key in known and known[key] != _digest(line) for key, line in lines.items()):
            return None
        new = {key: line for key, line in lines.items() if key not in known}
        if new:
            durable.append(self._path, b"".join(new.values()))
            self._record(new, count + len(new), replace=False)
        return count + len(new)

    def _rewrite(self) -> int:
        lines = self._lines(None)
        if lines:
            durable.replace(self._path, b"".join(lines.values()))
            self._record(lines, len(lines), replace=True)
        return len(lines)

    def _record(self, lines: dict[str, bytes], count: int, *, replace: bool) -> None:
        digests = {key: _digest(line) for key, line in lines.items()}
        digests[_STATE] = msgspec.json.encode((self._size(), count))
        self._online.set_lines(self._file, digests, replace=replace)

    def _lines(self, keys: set[str] | None) -> dict[str, bytes]:
        """Lines by request id, by time of observation."""
        return {
            key: self._line(key, at, label, features)
            for key, at, label, features in self._online.pairs(self._labels.name, self._requests.name, keys)
        }

    def _line(self, key: str, at: int, label: bytes, features: bytes) -> bytes:
        known = offline.decode(features, self._requests.Features)
        value = msgspec.json.decode(label, type=LabelValue).label
        return msgspec.json.encode(_Line(known, value, key, from_microseconds(at))) + b"\n"

    def _size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0


def _digest(line: bytes) -> bytes:
    return blake2b(line, digest_size=8).digest()

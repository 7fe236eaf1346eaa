"""What the console knows of the stream, in bounded memory: the last of each kind. Pure, without Kafka.

A thread that reads the topics adds, others ask: a lock is held for both.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

from machine_learning_engineering.dead_letters.letter import DeadLetterOrigin
from machine_learning_engineering.events.schemas import (
    DriftMeasured,
    LabelReported,
    Measurement,
    ModelEvent,
    PredictionLogged,
    QualityMeasured,
)
from producers.gateway.console.series import Cell, Series

MEBIBYTE = 1024 * 1024
MAX_PREDICTIONS, MAX_PREDICTION_BYTES = 10_000, 32 * MEBIBYTE
MAX_LABELS, MAX_LABEL_BYTES = 10_000, 4 * MEBIBYTE
MAX_LETTERS, MAX_LETTER_BYTES = 2_000, 4 * MEBIBYTE
MAX_WINDOWS = 48
"""Drift windows of a version."""
MAX_VERSIONS = 60
"""Model versions with measurements."""
MAX_EVENTS = 200

K = TypeVar("K")
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """The last items by key, at most so many and of at most so many bytes."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._items: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: K) -> V | None:
        """The item of this key."""
        found = self._items.get(key)
        return None if found is None else found[0]

    def put(self, key: K, value: V, size: int) -> None:
        """Add or replace an item; the oldest are forgotten."""
        old = self._items.pop(key, None)
        self.bytes += size - (0 if old is None else old[1])
        self._items[key] = (value, size)
        while self._items and (len(self._items) > self._most or self.bytes > self._most_bytes):
            _, (_, gone) = self._items.popitem(last=False)
            self.bytes -= gone

    def newest(self) -> Iterable[V]:
        """All items, the last one first."""
        return (value for value, _ in reversed(self._items.values()))


class Logged(NamedTuple):
    """A prediction of the log topic; `logged_at` is when the broker got it, in seconds since the epoch."""

    event: PredictionLogged
    logged_at: float


class Label(NamedTuple):
    """A label, and when it was reported, in seconds since the epoch."""

    event: LabelReported
    reported_at: float


class Letter(NamedTuple):
    """A dead letter without its bytes. `size` is that of its value; None if that is null."""

    partition: int
    offset: int
    at: float
    origin: DeadLetterOrigin
    size: int | None

    @property
    def address(self) -> str:
        """As `inflight dlq` writes it."""
        return f"{self.partition}:{self.offset}"


class Promoted(NamedTuple):
    """An event of a model, and when the broker got it, in seconds since the epoch."""

    event: ModelEvent
    at: float


class Memory:
    """The last of each kind. Any thread may call anything."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._predictions: Bounded[str, Logged] = Bounded(MAX_PREDICTIONS, MAX_PREDICTION_BYTES)
        self._labels: Bounded[str, Label] = Bounded(MAX_LABELS, MAX_LABEL_BYTES)
        self._letters: Bounded[tuple[int, int], Letter] = Bounded(MAX_LETTERS, MAX_LETTER_BYTES)
        self._drift: OrderedDict[tuple[str, str], deque[DriftMeasured]] = OrderedDict()
        self._quality: OrderedDict[tuple[str, str], QualityMeasured] = OrderedDict()
        self._events: deque[Promoted] = deque(maxlen=MAX_EVENTS)
        self._series = Series()
        self.counted = {"predictions": 0, "labels": 0, "dead_letters": 0}
        """Records since the reading began."""

    def log(self, event: PredictionLogged, at: float, size: int) -> None:
        """Note a prediction; of several with one id the first counts, as everywhere."""
        with self._lock:
            if self._predictions.get(event.request_id) is not None:
                return
            self.counted["predictions"] += 1
            self._predictions.put(event.request_id, Logged(event, at), size)
            seconds = event.queue_seconds, event.score_seconds, event.total_seconds
            self._series.log(at, event.model, event.outcome == "completed", seconds)

    def label(self, event: LabelReported, at: float, size: int) -> None:
        """Note a label; the one that was observed last counts."""
        with self._lock:
            self.counted["labels"] += 1
            known = self._labels.get(event.request_id)
            if known is None or event.observed_at >= known.event.observed_at:
                self._labels.put(event.request_id, Label(event, at), size)

    def letter(self, letter: Letter) -> None:
        """Note a dead letter."""
        origin = letter.origin
        size = sum(len(text or "") for text in (origin.message, origin.model, origin.request_id)) + 200
        with self._lock:
            self.counted["dead_letters"] += 1
            self._letters.put((letter.partition, letter.offset), letter, size)
            self._series.dead_letter(letter.at, origin.model or "")

    def measurement(self, event: Measurement) -> None:
        """Note a measurement; a window that is measured again replaces itself."""
        with self._lock:
            key = event.model, event.model_version
            if isinstance(event, QualityMeasured):
                self._quality[key] = event
                _limit(self._quality)
                return
            windows = self._drift.setdefault(key, deque(maxlen=MAX_WINDOWS))
            known = next((n for n, one in enumerate(windows) if one.window_id == event.window_id), None)
            if known is None:
                windows.append(event)
            else:
                windows[known] = event
            _limit(self._drift)

    def model_event(self, event: ModelEvent, at: float) -> None:
        """Note an event of a model."""
        with self._lock:
            self._events.append(Promoted(event, at))

    def columns(self, now: float, seconds: int, points: int, since: float) -> dict[str, Any]:
        """See `Series.columns`."""
        with self._lock:
            return self._series.columns(now, seconds, points, since)

    def totals(self, start: float, end: float) -> tuple[Cell, dict[str, Cell]]:
        """All of a time, and the part of each model."""
        with self._lock:
            parts = {name: self._series.total(start, end, name) for name in self._series.models()}
            return self._series.total(start, end), parts

    def prediction(self, request_id: str) -> Logged | None:
        """The prediction of this request."""
        with self._lock:
            return self._predictions.get(request_id)

    def label_of(self, request_id: str) -> Label | None:
        """The label of this request."""
        with self._lock:
            return self._labels.get(request_id)

    def predictions(
        self, limit: int, *, model: str = "", outcome: str = "", contains: str = ""
    ) -> tuple[list[Logged], int]:
        """The newest predictions that match, and how many match of those that are kept.

        Args:
            contains: a part of the request id.
        """
        with self._lock:
            found = list(self._predictions.newest())
        matching = [
            one
            for one in found
            if (not model or one.event.model == model)
            and (not outcome or one.event.outcome == outcome)
            and (not contains or contains in one.event.request_id)
        ]
        # Partitions are read one after the other at first: the order of arrival is not that of time.
        matching.sort(key=lambda one: one.logged_at, reverse=True)
        return matching[:limit], len(matching)

    def letters(self, *, reason: str = "", model: str = "", request_id: str = "") -> list[Letter]:
        """The dead letters that match, newest first."""
        with self._lock:
            found = list(self._letters.newest())
        matching = [
            one
            for one in found
            if (not reason or one.origin.reason == reason)
            and (not model or one.origin.model == model)
            and (not request_id or one.origin.request_id == request_id)
        ]
        return sorted(matching, key=lambda one: (one.at, one.partition, one.offset), reverse=True)

    def drift(self, model: str) -> list[DriftMeasured]:
        """The drift windows of a model, oldest first, of all of its versions that are kept."""
        with self._lock:
            found = [one for (name, _), windows in self._drift.items() if name == model for one in windows]
        return sorted(found, key=_window_end)[-MAX_WINDOWS:]

    def quality(self, model: str) -> list[QualityMeasured]:
        """The last measurement of live quality of each version of a model."""
        with self._lock:
            return [one for (name, _), one in self._quality.items() if name == model]

    def events(self) -> list[Promoted]:
        """The last events of all models, newest first."""
        with self._lock:
            return sorted(self._events, key=lambda one: one.at, reverse=True)


def _window_end(event: DriftMeasured) -> datetime:
    return event.window_end


def _limit(versions: "OrderedDict[tuple[str, str], V]") -> None:
    while len(versions) > MAX_VERSIONS:
        versions.popitem(last=False)

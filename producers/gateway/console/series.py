"""Throughput, outcomes and latency over time, in buckets of fixed width and bounded number. Pure."""

import math
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

BUCKET_SECONDS = 5
MAX_BUCKETS = 720
"""An hour."""
MAX_MODELS = 50
"""Names come from the stream: those beyond share one row."""
OTHERS = "(others)"
_LEAST, _STEPS = 0.0005, 8
# Eight steps for each doubling, from half a millisecond to two minutes: a quantile is known to 9 %, and better where
# many requests are, for within its step it is interpolated.
_BINS = 145


class Cell(Struct):
    """What happened to one model in one bucket. Seconds are sums over its requests."""

    completed: int = 0
    failed: int = 0
    dead_letters: int = 0
    queue_seconds: float = 0.0
    score_seconds: float = 0.0
    latency: dict[int, int] = {}

    @property
    def predictions(self) -> int:
        """Completed and failed."""
        return self.completed + self.failed

    def add(self, other: "Cell") -> None:
        """Add another cell to this one."""
        self.completed += other.completed
        self.failed += other.failed
        self.dead_letters += other.dead_letters
        self.queue_seconds += other.queue_seconds
        self.score_seconds += other.score_seconds
        for number, count in other.latency.items():
            self.latency[number] = self.latency.get(number, 0) + count

    def quantile(self, share: float) -> float | None:
        """The latency in seconds below which this share of the requests was; None without requests."""
        total = sum(self.latency.values())
        if not total:
            return None
        wanted = share * total
        for number, count in sorted(self.latency.items()):
            if wanted <= count:
                return _LEAST * 2 ** ((number - 1 + wanted / count) / _STEPS)
            wanted -= count
        return None


class Series:
    """Counts by bucket and model."""

    def __init__(self) -> None:
        self._buckets: dict[int, dict[str, Cell]] = {}
        self._models: set[str] = set()

    def log(self, at: float, model: str, completed: bool, seconds: tuple[float, float, float]) -> None:
        """Note a prediction.

        Args:
            at: when, in seconds since the epoch.
            completed: False if it failed.
            seconds: in the queue, in the predict call, and in total.
        """
        cell = self._cell(at, model)
        if cell is None:
            return
        queue, score, total = seconds
        if completed:
            cell.completed += 1
        else:
            cell.failed += 1
        cell.queue_seconds += queue
        cell.score_seconds += score
        number = 0 if total <= _LEAST else min(_BINS - 1, 1 + int(_STEPS * math.log2(total / _LEAST)))
        cell.latency[number] = cell.latency.get(number, 0) + 1

    def dead_letter(self, at: float, model: str) -> None:
        """Note a record that became a dead letter."""
        if (cell := self._cell(at, model)) is not None:
            cell.dead_letters += 1

    def columns(self, now: float, seconds: int, points: int, since: float) -> dict[str, Any]:
        """The last time as columns, one value a point; None before `since`, of which nothing is known.

        Args:
            now: in seconds since the epoch.
            seconds: how far back.
            points: at most so many, of equal width.
        """
        width = max(1, round(seconds / points / BUCKET_SECONDS))
        last = int(now) // (BUCKET_SECONDS * width)
        columns: dict[str, list[float | None]] = {
            name: [] for name in ("at", "completed", "failed", "dead_letters", "p50", "p95", "p99")
        }
        # The last one is not complete yet, and left out.
        for number in range(last - seconds // (BUCKET_SECONDS * width), last):
            start, end = number * width * BUCKET_SECONDS, (number + 1) * width * BUCKET_SECONDS
            columns["at"].append(start)
            cell = self.total(start, end)
            known = end > since
            for name in ("completed", "failed", "dead_letters"):
                columns[name].append(getattr(cell, name) if known else None)
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
                columns[name].append(cell.quantile(share))
        return {"step_seconds": width * BUCKET_SECONDS, **columns}

    def total(self, start: float, end: float, model: str | None = None) -> Cell:
        """All of a time, `start` inclusive and `end` exclusive."""
        found = Cell()
        for cell in self._between(start, end, model):
            found.add(cell)
        return found

    def models(self) -> list[str]:
        """The names that were seen."""
        return sorted(self._models)

    def _between(self, start: float, end: float, model: str | None) -> Iterator[Cell]:
        for number in range(int(start) // BUCKET_SECONDS, math.ceil(end / BUCKET_SECONDS)):
            cells = self._buckets.get(number, {})
            if model is None:
                yield from cells.values()
            elif model in cells:
                yield cells[model]

    def _cell(self, at: float, model: str) -> Cell | None:
        number = int(at) // BUCKET_SECONDS
        if number not in self._buckets:
            self._buckets[number] = {}
            _keep_newest(self._buckets)
            if number not in self._buckets:
                return None
        if model not in self._models:
            if len(self._models) >= MAX_MODELS:
                model = OTHERS
            self._models.add(model)
        return self._buckets[number].setdefault(model, Cell())


def _keep_newest(buckets: dict[int, Any]) -> None:
    # Times come from the stream: the newest ones may be wrong, and then go first when they are the oldest.
    while len(buckets) > MAX_BUCKETS:
        del buckets[min(buckets)]

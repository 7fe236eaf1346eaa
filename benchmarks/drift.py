"""`python -m benchmarks.drift`: the drift monitor's cost, false alarms and time to detection.

No broker: records go through the drift monitor's steps, from their bytes to the measurement and the state that it
publishes. Every split of the data is a model of its own, trained without the rows that the windows are made of.
"""

import gc
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np

from benchmarks.drift_data import MIN_PSI, SIGNIFICANCE, Data, Features, Served, amazon, diamonds, watch
from machine_learning_engineering.events.schemas import DriftMeasured, PredictionLogged
from model.reviews.model import Reviews

Disturb = Callable[[int, Features], Features]
"""From a row's number and features to other features."""


class FalseAlarms(msgspec.Struct, frozen=True):
    """Clean windows, and those of them in which anything drifted: as shipped, and by the tests alone (no least PSI)."""

    model: str
    windows: int
    rows: int
    splits: int
    significance: float
    alarms: int
    alarms_by_tests_alone: int


def false_alarms(data: Data, wanted: int, home: Path) -> FalseAlarms:
    """Of so many windows of rows that nothing was trained on."""
    found: list[DriftMeasured] = []
    splits = 0
    while len(found) < wanted:
        training, rest = data.split(splits)
        served = Served(data.model, training, home / f"clean-{splits}")
        found += served.windows(rest, data.size, min_psi=0)[: wanted - len(found)]
        splits += 1
    by_tests = sum(any(field.drifted for field in window.fields) for window in found)
    as_shipped = sum(any(field.drifted and field.psi >= MIN_PSI for field in window.fields) for window in found)
    return FalseAlarms(data.model.name, len(found), data.size, splits, SIGNIFICANCE, as_shipped, by_tests)


class Power(msgspec.Struct, frozen=True):
    """Windows of a shift: how many were alarms, and the delay from its onset, at any row of a window, to the alarm.

    The delay is in rows, to the end of the window that alarmed, and in windows that ended since the onset.
    """

    shift: str
    rows: int
    windows: int
    alarms: int
    named: list[str]
    onsets: int
    found: int
    delay_rows_median: float | None
    delay_rows_max: int | None
    delay_windows_max: int | None


def power(served: Served, shift: str, clean: Sequence[Features], shifted: Sequence[Features], size: int) -> Power:
    """Windows that are shifted as a whole, and twenty streams in which the shift begins somewhere in a window."""
    windows = served.windows(shifted, size)
    named: dict[str, int] = {}
    for window in windows:
        for field in window.fields:
            named[field.field] = named.get(field.field, 0) + field.drifted
    delays: list[tuple[int, int]] = []
    onsets = np.linspace(0, size - 1, 20).astype(int).tolist()
    for onset in onsets:
        stream = served.windows([*clean[:onset], *shifted[: 3 * size - onset]], size)
        for number, window in enumerate(stream, start=1):
            if any(field.drifted for field in window.fields):
                delays.append((number * size - onset, number))
                break
    rows = [delay for delay, _ in delays]
    return Power(
        shift=shift,
        rows=size,
        windows=len(windows),
        alarms=sum(any(field.drifted for field in window.fields) for window in windows),
        named=[name for name, count in named.items() if count > len(windows) / 2],
        onsets=len(onsets),
        found=len(delays),
        delay_rows_median=median(rows) if rows else None,
        delay_rows_max=max(rows, default=None),
        delay_windows_max=max((number for _, number in delays), default=None),
    )


def scaled(field: str, factor: float) -> Disturb:
    """A number in another unit, or a larger one."""
    return lambda _, row: row | {field: row[field] * factor}


def replaced(field: str, value: Any, every: int) -> Disturb:
    """One row in so many has this value."""
    return lambda number, row: row | {field: value} if number % every == 0 else row


SHIFTS: dict[str, Disturb] = {
    "carat in grams (x 0.2)": scaled("carat", 0.2),
    "carat x 1.4": scaled("carat", 1.4),
    "carat x 1.1": scaled("carat", 1.1),
    "a third of the cuts is Fair": replaced("cut", "Fair", 3),
    "a tenth of the cuts is Fair": replaced("cut", "Fair", 10),
    "a tenth without a length (x = 0)": replaced("x", 0.0, 10),
    "a twentieth 99 mm long": replaced("x", 99.0, 20),
    "prices x 1.4 (labels only)": lambda _, row: row,
}


def shifts_of_diamonds(data: Data, home: Path, windows: int = 10) -> list[Power]:
    """Each of `SHIFTS`, on rows that nothing was trained on."""
    training, rest = data.split(0)
    served = Served(data.model, training, home / "diamonds")
    clean, rows = rest[: 3 * data.size], rest[3 * data.size :][: windows * data.size]
    return [
        power(served, name, clean, [disturb(n, row) for n, row in enumerate(rows)], data.size)
        for name, disturb in SHIFTS.items()
    ]


def products_then_films(data: Data, home: Path, sizes: Iterable[int] = (100, 200)) -> list[Power]:
    """Sentences about products, then about films."""
    training, rest = data.split(0)
    served = Served(data.model, training, home / "reviews")
    films = [example.features for example in Reviews.shifted_examples()]
    rows = [films[index] for index in np.random.default_rng(1).permutation(len(films))[:2_000].tolist()]
    return [power(served, "products, then films", rest, rows, size) for size in sizes]


class Cost(msgspec.Struct, frozen=True):
    """Microseconds of CPU time an event and field, from the record's bytes to measurement and state; best of three.

    `decoding` is what decoding the whole event with its features and prediction takes alone, in the same run.
    """

    model: str
    events: int
    fields: int
    microseconds: float
    decoding: float
    ratio: float
    events_a_second: float


def cost(data: Data, home: Path, events: int = 20_000) -> Cost:
    """Of so many events, with windows of the usual size."""
    training, rest = data.split(0)
    served = Served(data.model, training, home / f"cost-{data.model.name}")
    records = served.records([rest[number % len(rest)] for number in range(events)])
    decode = msgspec.json.Decoder(PredictionLogged).decode

    def watched() -> None:
        assert len(list(watch(records, served.references, data.size, MIN_PSI))) == events // data.size

    def decoded() -> None:
        for record in records:
            event = decode(record.bytes)
            msgspec.json.decode(event.features)
            msgspec.json.decode(event.prediction)  # type: ignore[arg-type]

    # As the drift monitor does: keep the collector from scanning existing objects for each batch.
    gc.collect()
    gc.freeze()
    try:
        ours, theirs = (min(_seconds(work) for _ in range(3)) for work in (watched, decoded))
    finally:
        gc.unfreeze()
    each = 1e6 / (events * served.fields)
    return Cost(data.model.name, events, served.fields, ours * each, theirs * each, ours / theirs, events / ours)


def _seconds(work: Callable[[], None]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    """Print every figure as one JSON object."""
    with TemporaryDirectory() as folder:
        home = Path(folder)
        found: dict[str, Any] = {}
        for name, work in {
            "cost": lambda: [cost(data(), home) for data in (diamonds, amazon)],
            "false_alarms": lambda: [false_alarms(data(), 200, home / data.__name__) for data in (diamonds, amazon)],
            "diamonds": lambda: shifts_of_diamonds(diamonds(), home),
            "reviews": lambda: products_then_films(amazon(), home),
        }.items():
            print(f"{name} ...", file=sys.stderr)
            found[name] = msgspec.to_builtins(work())
        print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

"""What the console keeps: the last of each kind, within limits."""

import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.topics import LABELS, LOGS, MEASUREMENTS, MODEL_EVENTS
from producers.gateway.console import memory as bounds
from producers.gateway.console.memory import Bounded, Memory
from producers.gateway.console.reader import note
from tests.support.console import FilledWatch, fill, fill_drift, fill_letter, log

GOLDEN = Path(__file__).parents[4] / "contract" / "golden"
NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def put(memory: Memory, number: int, **changes: object) -> None:
    event = log(f"r{number}", "diamonds", NOW + timedelta(seconds=number), **changes)  # type: ignore[arg-type]
    note(memory, LOGS, events.encode(event), NOW.timestamp() + number)


def test_bounded_by_number_and_by_bytes() -> None:
    kept: Bounded[int, str] = Bounded(3, 100)
    for number in range(5):
        kept.put(number, str(number), 10)
    assert list(kept.newest()) == ["4", "3", "2"]
    kept.put(5, "large", 95)
    assert list(kept.newest()) == ["large"]
    kept.put(5, "small", 1)
    assert (len(kept), kept.bytes) == (1, 1)
    kept.put(6, "too large", 101)
    assert (len(kept), kept.bytes) == (0, 0)


def test_the_first_of_two_outcomes_counts() -> None:
    memory = Memory()
    put(memory, 1)
    put(memory, 1, failed="yes")
    found = memory.prediction("r1")
    assert found is not None
    assert found.event.outcome == "completed"
    assert memory.counted["predictions"] == 1


def test_filters_and_order() -> None:
    memory = Memory()
    for number in random.Random(1).sample(range(50), 50):
        put(memory, number, failed="yes" if number % 5 == 0 else "")
    found, matching = memory.predictions(3)
    assert ([one.event.request_id for one in found], matching) == (["r49", "r48", "r47"], 50)
    failed, matching = memory.predictions(100, outcome="failed", contains="r4", model="diamonds")
    assert ([one.event.request_id for one in failed], matching) == (["r45", "r40"], 2)
    assert memory.predictions(100, model="titanic") == ([], 0)


def test_the_label_that_was_observed_last_counts() -> None:
    memory = Memory()
    for hour, value in ((9, 1), (11, 2), (10, 3)):
        text = f'{{"request_id":"r","model":"m","label":{value},"observed_at":"2026-11-30T{hour:02d}:00:00Z"}}'
        note(memory, LABELS, text.encode(), NOW.timestamp())
    found = memory.label_of("r")
    assert found is not None
    assert bytes(found.event.label) == b"2"


def test_a_window_that_is_measured_again_replaces_itself() -> None:
    watch = FilledWatch()
    for number in (1, 2, 1):
        fill_drift(watch, number, NOW.timestamp() + number)
    assert len(watch.memory.drift("diamonds")) == 2
    assert watch.memory.drift("titanic") == []


def test_what_is_no_event_is_left_out() -> None:
    memory = Memory()
    for topic in (LOGS, LABELS, MEASUREMENTS, MODEL_EVENTS):
        for value in (b"", b"{", b"[]", b"\xff", b'{"type":"nothing"}', b"[" * 100_000):
            note(memory, topic, value, 0.0)
    assert memory.counted == {"predictions": 0, "labels": 0, "dead_letters": 0}


TOPICS = {
    "prediction.logged.v1": LOGS,
    "label.reported.v1": LABELS,
    "drift.measured.v1": MEASUREMENTS,
    "quality.measured.v1": MEASUREMENTS,
    "model.promoted.v1": MODEL_EVENTS,
    "drift.detected.v1": MODEL_EVENTS,
}


@pytest.mark.parametrize(("kind", "topic"), TOPICS.items())
def test_every_event_of_its_topics_is_kept(kind: str, topic: str) -> None:
    memory = Memory()
    note(memory, topic, (GOLDEN / f"{kind}.json").read_bytes(), 1.0)
    kept = [memory.counted["predictions"], memory.counted["labels"], memory.events()]
    kept += [memory.drift("diamonds"), memory.quality("diamonds")]
    assert any(kept)


def test_memory_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times as much as it keeps."""
    monkeypatch.setattr(bounds, "MAX_PREDICTIONS", 1_000)
    monkeypatch.setattr(bounds, "MAX_LETTERS", 100)
    watch = FilledWatch()
    fill(watch, 10_000)
    for number in range(1_000):
        fill_letter(watch, number, time.time())
    found, matching = watch.memory.predictions(100_000)
    assert len(found) == matching == 1_000
    assert watch.memory.counted["predictions"] == 10_000
    assert len(watch.memory.letters()) == 100
    versions = 2 * bounds.MAX_VERSIONS
    for number in range(versions):
        event = events.decode_measurement((GOLDEN / "drift.measured.v1.json").read_bytes())
        watch.memory.measurement(msgspec.structs.replace(event, model=f"m{number}"))
    assert len(watch.memory._drift) == bounds.MAX_VERSIONS

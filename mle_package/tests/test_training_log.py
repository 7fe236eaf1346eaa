"""The training log: appended, never half."""

import multiprocessing
import resource
from datetime import UTC, datetime
from pathlib import Path

import pytest

from machine_learning_engineering.training import log as training_log
from machine_learning_engineering.training.log import LogUnreadable, TrainingEntry


def entry(run_id: str) -> TrainingEntry:
    return TrainingEntry(
        run_id=run_id,
        outcome="completed",
        model="doubler",
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        seconds=1.0,
        seed=1,
        libraries=training_log.libraries(),
    )


def append_many(path: Path, name: str) -> None:
    for number in range(50):
        training_log.append(path, entry(f"{name}-{number}"))


def append_on_a_full_disk(path: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 100, resource.RLIM_INFINITY))
    with pytest.raises(OSError, match="File too large"):
        training_log.append(path, entry("unwritten"))


def run(target, *argument_lists) -> None:
    processes = [multiprocessing.get_context("spawn").Process(target=target, args=one) for one in argument_lists]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def test_entries_come_back_in_their_order(tmp_path):
    path = tmp_path / "new" / "log.jsonl"
    assert list(training_log.read(path)) == []
    entries = [entry("a"), entry("b")]
    for one in entries:
        training_log.append(path, one)
    assert list(training_log.read(path)) == entries
    assert entries[0].libraries.keys() >= {"python", "numpy", "scikit-learn", "skops"}


def test_processes_may_append_at_once(tmp_path):
    path = tmp_path / "log.jsonl"
    run(append_many, (path, "a"), (path, "b"))
    found = [one.run_id for one in training_log.read(path)]
    assert sorted(found) == sorted(f"{name}-{number}" for name in "ab" for number in range(50))


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path):
    path = tmp_path / "log.jsonl"
    training_log.append(path, entry("a"))
    before = path.read_bytes()
    run(append_on_a_full_disk, (path,))
    assert path.read_bytes() == before


def test_a_line_that_is_no_entry_is_named(tmp_path):
    path = tmp_path / "log.jsonl"
    training_log.append(path, entry("a"))
    with path.open("ab") as file:
        file.write(b'{"run_id":1}\n')
    with pytest.raises(LogUnreadable, match=r"line 2 of .*log.jsonl is no entry"):
        list(training_log.read(path))

"""The training log: appended, never half."""

import math
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest

from machine_learning_engineering.core import files as durable
from machine_learning_engineering.evaluation.estimates import Estimate
from machine_learning_engineering.training import run_log as training_log
from machine_learning_engineering.training.run_log import TrainingEntry


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


# Programs of their own: where the tests are imported from differs, and a new process might not find them.
APPEND = """
import resource, sys
from pathlib import Path
import msgspec
from machine_learning_engineering.training import run_log as training_log

path, first, many, room = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
if room:
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + room, resource.RLIM_INFINITY))
one = msgspec.json.decode(first, type=training_log.TrainingEntry)
for number in range(many):
    try:
        training_log.append(path, msgspec.structs.replace(one, run_id=f"{one.run_id}-{number}"))
    except OSError as error:
        sys.exit(f"not written: {error}")
"""


def appending(path: Path, run_id: str, many: int, room: int = 0) -> subprocess.Popen[str]:
    """A process that appends entries; `room` is how many bytes more the file may have."""
    words = [str(path), msgspec.json.encode(entry(run_id)).decode(), str(many), str(room)]
    return subprocess.Popen([sys.executable, "-c", APPEND, *words], stderr=subprocess.PIPE, text=True)


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
    writers = [appending(path, name, 50) for name in "ab"]
    assert [writer.communicate(timeout=300)[1] for writer in writers] == ["", ""]
    found = [one.run_id for one in training_log.read(path)]
    assert sorted(found) == sorted(f"{name}-{number}" for name in "ab" for number in range(50))


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path):
    path = tmp_path / "log.jsonl"
    training_log.append(path, entry("a"))
    before = path.read_bytes()
    writer = appending(path, "unwritten", 1, room=100)
    assert "File too large" in writer.communicate(timeout=300)[1]
    assert writer.returncode == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize("torn", [b'{"run_id":"torn","outc', b"\0" * 40, b'{"run_id":"\xc3'], ids=repr)
def test_a_line_that_a_power_loss_cut_off_spoils_no_other(tmp_path, torn):
    path = tmp_path / "log.jsonl"
    training_log.append(path, entry("a"))
    with path.open("ab") as file:
        file.write(torn)
    training_log.append(path, entry("b"))
    training_log.append(path, entry("c"))
    with pytest.warns(UserWarning, match=r"line 2 of .*log.jsonl is damaged and was skipped"):
        assert [one.run_id for one in training_log.read(path)] == ["a", "b", "c"]


def test_the_name_of_a_new_log_is_synced(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(durable, "sync", synced.append)
    training_log.append(tmp_path / "new" / "log.jsonl", entry("a"))
    assert synced == [tmp_path / "new"]


@pytest.mark.parametrize(
    "line", [b'{"run_id":1}', b"[]", b"[" * 100_000, b'{"seconds":null}'], ids=lambda line: str(line[:9])
)
def test_a_line_that_is_no_entry_spoils_no_other(tmp_path, line):
    path = tmp_path / "log.jsonl"
    training_log.append(path, entry("a"))
    with path.open("ab") as file:
        file.write(line + b"\n")
    training_log.append(path, entry("b"))
    with pytest.warns(UserWarning, match=r"line 2 of .*log.jsonl is .* and was skipped"):
        assert [one.run_id for one in training_log.read(path)] == ["a", "b"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_and_leaves_the_log_as_it_was(tmp_path, bad):
    """JSON would have null in its place, and the entry could not be read again."""
    path = tmp_path / "log.jsonl"
    training_log.append(path, entry("a"))
    vague = Estimate(0.5, bad, 0.7, 0.1)
    for changes in ({"held_out": {"r2": vague}}, {"metrics": {"r2": bad}}, {"seconds": bad}):
        with pytest.raises(ValueError, match="not finite"):
            training_log.append(path, msgspec.structs.replace(entry("b"), **changes))
    assert [one.run_id for one in training_log.read(path)] == ["a"]


class Kernel:
    def __repr__(self):
        return "Kernel(\udcff)"


class Silent:
    def __repr__(self):
        raise RuntimeError("no text")


def test_any_params_have_a_form_that_can_be_logged_and_read_again():
    given = {"kernel": Kernel(), "silent": Silent(), "missing": math.nan, "big": 2**70, "scale": np.float32(0.5)}
    given |= {"nested": {1: [Kernel(), (1, None)]}, "chosen": {2.5}, "long": "x" * 5, "make": print}
    plain = training_log.plain_params(given)
    assert plain["kernel"] == "Kernel(?)"
    assert plain["silent"] == "<Silent>"
    assert (plain["missing"], plain["big"], plain["scale"]) == ("nan", str(2**70), 0.5)
    assert (plain["nested"], plain["chosen"]) == ({"1": ["Kernel(?)", [1, None]]}, [2.5])
    assert msgspec.json.decode(msgspec.json.encode(plain)) == plain

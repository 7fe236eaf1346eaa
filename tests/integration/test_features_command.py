"""`inflight features`, run as a user runs it, over a SQLite log and the archive."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec import Raw

from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
from machine_learning_engineering.testing.log_store_examples import START, example
from monitoring.archive.prediction_log import ArchivePredictionLog

PASSENGER = b'{"pclass":3,"sex":"male","sibsp":1,"parch":0,"fare":7.25,"age":22.0}'
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def inflight(tmp_path: Path) -> Run:
    """Run the command with a home of its own."""

    def run(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        environment = os.environ | {"INFLIGHT_HOME": str(tmp_path / "home"), "COLUMNS": "200", "NO_COLOR": "1"}
        command = [sys.executable, "-m", "inflight.cli", "features", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)

    return run


@pytest.fixture(params=["file", "archive"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What `--log` names: three passengers, an hour apart."""
    path = tmp_path / "log.sqlite"
    opened: SqlitePredictionLog | ArchivePredictionLog = SqlitePredictionLog(path)
    if request.param == "archive":
        (tmp_path / "home").mkdir()
        opened = ArchivePredictionLog(f"sqlite:///{tmp_path / 'home' / 'archive.sqlite'}")
    with opened:
        passengers = [START + timedelta(hours=hour) for hour in range(3)]
        opened.append(
            example(f"p{hour}", "titanic", at=at, features=Raw(PASSENGER)) for hour, at in enumerate(passengers)
        )
    return "archive" if request.param == "archive" else str(path)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text(
        "request_id,model,label,observed_at\n"
        "p0,titanic,0,2026-02-01T00:00:00Z\np1,titanic,true,2026-02-01T00:00:00Z\n"
        "p2,titanic,perhaps,2026-02-01T00:00:00Z\np0,emeralds,1,2026-02-01T00:00:00Z\n"
    )
    return path


def test_requests_and_labels_become_a_folder_for_training(inflight: Run, log: str, labels: Path) -> None:
    done = inflight("build", "titanic", "--log", log, "--labels", labels)
    assert done.returncode == 0, done.stderr
    assert "3 requests (3 new, 0 refused), 3 labels (2 new, 1 refused, 0 without a request before them)" in done.stdout
    assert "2 examples: inflight train titanic -ds dataset -ds " in done.stdout
    assert "skipped labels of unknown models: emeralds" in done.stderr
    folder = Path(done.stdout.strip().rpartition("-ds ")[2])
    # The other one is the lock of its writers, which no training reads.
    [file] = [one for one in folder.iterdir() if one.name != ".lock"]
    assert [json.loads(line)["label"] for line in file.read_text().splitlines()] == [False, True]


def test_only_requests_of_a_time_are_read(inflight: Run, log: str, labels: Path) -> None:
    since, until = "2026-01-01T13:00:00Z", "2026-01-01T14:00:00Z"
    done = inflight("build", "titanic", "--log", log, "--labels", labels, "--since", since, "--until", until, "--json")
    [built] = json.loads(done.stdout)
    assert (built["requests"], built["examples"], built["unmatched"]) == (1, 1, 1)


def test_what_is_in_the_store_is_shown(inflight: Run, log: str, labels: Path) -> None:
    assert "run inflight features build" in inflight("show").stdout
    inflight("build", "titanic", "--log", log, "--labels", labels)
    assert [view["view"] for view in json.loads(inflight("show", "--json").stdout)] == ["titanic", "titanic.labels"]
    assert "titanic.labels" in inflight("show").stdout
    shown = json.loads(inflight("show", "titanic.labels", "--key", "p1").stdout)
    assert shown == {
        "view": "titanic.labels",
        "key": "p1",
        "at": "2026-02-01T00:00:00Z",
        "features": {"label": True},
    }


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["build", "emeralds"], 2, "no model is named emeralds"),
        (["build", "titanic", "--log", "nowhere.sqlite"], 2, "there is no prediction log at nowhere.sqlite"),
        (["build", "titanic", "--log", "archive"], 2, "run inflight archive"),
        (["build", "titanic", "--since", "whenever"], 2, "whenever"),
        (["build", "titanic", "--log", "log.sqlite", "--labels", "none.csv"], 2, "none.csv"),
        (["build", "titanic", "--log", "labels.csv"], 2, "is not a prediction log"),
        (["show", "titanic"], 2, "a view and --key together"),
        (["show", "titanic", "--key", "x"], 1, "the view `titanic` has no key 'x'"),
    ],
)
@pytest.mark.parametrize("log", ["file"], indirect=True)
def test_what_is_wrong_is_said(
    inflight: Run, log: str, labels: Path, arguments: list[str], code: int, complaint: str
) -> None:
    done = inflight(*arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert complaint in done.stderr


def test_the_example_of_the_documentation_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "feature_store.md").read_text()
    monkeypatch.chdir(tmp_path)
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "docs/feature_store.md", "exec"), {"__name__": "docs_example"})
    assert sorted(path.name for path in (tmp_path / "features").iterdir()) == ["offline", "online.sqlite"]

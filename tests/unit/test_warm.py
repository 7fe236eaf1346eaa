"""A process of the product that starts warm is like one that starts cold."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from inflight.stack.process import end_with_parent
from tests.support import warm
from tests.support.waiting import until

INFLIGHT = [sys.executable, "-P", "-m", "inflight.cli"]


@pytest.fixture(params=["warm", "cold"])
def start(request, monkeypatch):
    monkeypatch.setattr(subprocess.Popen, "_execute_child", warm._execute)
    monkeypatch.setenv("INFLIGHT_TEST_COLD", "1" if request.param == "cold" else "0")
    return request.param


def run(*arguments: str, **options) -> tuple[int, str, str]:
    done = subprocess.run([*INFLIGHT, *arguments], capture_output=True, text=True, check=False, **options)
    return done.returncode, done.stdout, done.stderr


def test_output_code_environment_and_folder(start, tmp_path):
    environment = os.environ | {"INFLIGHT_HOME": str(tmp_path / "here"), "COLUMNS": "100", "NO_COLOR": "1"}
    code, output, errors = run("models", "list", "--json", env=environment, cwd=tmp_path)
    assert (code, output.strip(), errors) == (0, "[]", "")
    code, output, errors = run("nonsense", env=environment)
    assert (code, output) == (2, "")
    assert "No such command 'nonsense'" in errors
    code, output, errors = run("run", env=environment, cwd=tmp_path)
    assert code == 2
    assert "there is no trained model" in errors
    environment["INFLIGHT_SEED"] = "none"
    code, output, errors = run("models", "list", env=environment)
    assert (code, output) == (2, "")
    assert "INFLIGHT_SEED" in errors


def test_a_process_of_its_own(start, tmp_path):
    """It waits for a broker; its session, its parent and its end are its own."""
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*INFLIGHT, "indexer"],
            env=os.environ
            | {
                "INFLIGHT_HOME": str(tmp_path),
                "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
                "INFLIGHT_INDEXER_METRICS_PORT": "0",
            },
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
    until(lambda: (tmp_path / "log").stat().st_size, 60, "it says that it waits")
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    assert [int(field) for field in fields[1:4]] == [os.getpid(), process.pid, process.pid]
    assert ("warm_interpreter" in Path(f"/proc/{process.pid}/cmdline").read_text()) == (start == "warm")
    process.kill()
    assert process.wait(timeout=60) == -signal.SIGKILL

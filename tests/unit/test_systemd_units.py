"""The units for systemd: what they start exists, and systemd accepts them where it is installed."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inflight.cli import app

UNITS = sorted((Path(__file__).parents[2] / "deploy" / "systemd").iterdir())


def _read(name: str) -> configparser.ConfigParser:
    found = configparser.ConfigParser(strict=False, interpolation=None)
    found.optionxform = str  # type: ignore[assignment, method-assign]
    found.read(next(path for path in UNITS if path.name == name))
    return found


def test_the_timer_starts_a_command_that_exists() -> None:
    service, timer = _read("inflight-retrain.service"), _read("inflight-retrain.timer")
    assert timer["Timer"]["Unit"] == "inflight-retrain.service"
    program, *words = service["Service"]["ExecStart"].split()
    assert program.endswith("/bin/inflight")
    told = CliRunner().invoke(app, [words[0], "--help"], env={"COLUMNS": "200"}).stdout
    assert all(word in told for word in words[1:])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_them() -> None:
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, UNITS)], capture_output=True, text=True, timeout=60
    )
    # The program of the service is installed elsewhere.
    problems = [line for line in done.stderr.splitlines() if "is not executable" not in line and line]
    assert not problems

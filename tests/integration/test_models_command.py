"""`inflight train` and `inflight models`, run as a user runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture
def inflight(tmp_path: Path):
    """Run the command with a home of its own."""

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = os.environ | {"INFLIGHT_HOME": str(tmp_path / "home"), "COLUMNS": "200", "NO_COLOR": "1"}
        command = [sys.executable, "-m", "inflight.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=tmp_path)

    return run


def test_a_trained_model_is_listed_as_champion(inflight):
    trained = inflight("train", "titanic", "--json")
    assert trained.returncode == 0, trained.stderr
    [run] = json.loads(trained.stdout)
    assert (run["model"], run["version"], run["promoted"]) == ("titanic", "v1", True)
    [listed] = json.loads(inflight("models", "list", "--json").stdout)
    assert (listed["model"], listed["version"], listed["champion"]) == ("titanic", "v1", True)
    assert listed["metrics"] == run["metrics"]
    assert "titanic" in inflight("models", "list").stdout


def test_an_empty_registry_tells_what_to_do(inflight):
    assert "run inflight train" in inflight("models", "list").stdout
    assert inflight("models", "list", "--json").stdout == "[]\n"


def test_an_unknown_model_is_an_error_that_names_those_there_are(inflight):
    done = inflight("train", "emeralds")
    assert done.returncode == 2
    assert "emeralds" in done.stderr
    assert "diamonds, reviews, titanic" in done.stderr


def test_a_damaged_manifest_is_an_error_that_names_it(inflight, tmp_path):
    assert inflight("train", "titanic").returncode == 0
    (tmp_path / "home" / "registry" / "titanic" / "v1" / "manifest.json").write_text("{")
    done = inflight("models", "list")
    assert done.returncode == 1
    assert "manifest of model `titanic` v1" in done.stderr

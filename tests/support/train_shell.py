"""`inflight train` in a folder and home of its own, and passengers to train on."""

import csv
import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

from machine_learning_engineering.registry.registry import Registry
from model.titanic.dataset import DATASET
from model.titanic.model import Titanic

COMMAND = [sys.executable, "-m", "inflight.cli", "train"]


class Shell:
    """A working folder with a home of its own, in which the command is run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.environment = os.environ | {"INFLIGHT_HOME": str(self.home), "COLUMNS": "200", "NO_COLOR": "1"}
        # Nobody listens on port 1: no running worker hears of these trainings.
        self.environment["INFLIGHT_KAFKA_BOOTSTRAP_SERVERS"] = "127.0.0.1:1"

    def train(self, *arguments: object, before: tuple[str, ...] = (), **options) -> "subprocess.CompletedProcess[str]":
        command = [*before, *COMMAND, *map(str, arguments)]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=self.folder, env=self.environment, **options
        )

    def entries(self, *arguments: object, **options) -> list[dict]:
        """The entries that a training prints, which must succeed."""
        done = self.train(*arguments, "--json", **options)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return json.loads(done.stdout)

    def champion(self) -> str | None:
        """The version of the champion, which must open."""
        registry = Registry(self.home / "registry")
        if (version := registry.champions().get("titanic")) is not None:
            registry.open("titanic", model_class=Titanic)
        return version

    def log(self) -> list[dict]:
        return [json.loads(line) for line in (self.home / "training-log.jsonl").read_text().splitlines()]


def passengers(path: Path, count: int, *, spoil: dict[str, str] | None = None) -> Path:
    """The first passengers in Kaggle's own columns, of which the last may be spoilt."""
    rows = list(islice(DATASET.rows(), count))
    rows[-1] |= spoil or {}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path

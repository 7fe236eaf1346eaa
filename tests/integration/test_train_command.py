"""`inflight train` as a user runs it: its flags, what it prints, and fresh data."""

import csv
import json
import os
import pty
import subprocess
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np
import pytest

from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
from machine_learning_engineering.prediction_log.store import PredictionRecord
from machine_learning_engineering.registry.registry import Registry
from model.titanic.dataset import DATASET
from model.titanic.model import Titanic
from tests.support.doses import FULL
from tests.support.train_shell import COMMAND, passengers


@pytest.mark.parametrize(
    "flags",
    [
        ("-ds", "-dt", "-mt", "-st", "-lt", "-n"),
        ("--data-source", "--data-target", "--models-target", "--sota-target", "--log-target", "--n-models"),
    ],
    ids=["short", "long"],
)
def test_each_flag_says_where_something_comes_from_or_goes(shell, tmp_path, flags):
    values = (passengers(tmp_path / "new.csv", 200), "data", "models", "sota", "log.jsonl", 2)
    [entry] = shell.entries("titanic", *(part for pair in zip(flags, values, strict=True) for part in pair))
    assert entry["sources"][0]["name"] == str(tmp_path / "new.csv")
    assert entry["rows_trained"] + entry["rows_held_out"] == 200
    assert len(list((tmp_path / "data" / "titanic").rglob("*.parquet"))) == 3
    assert Registry(tmp_path / "models").versions("titanic") == ["v1", "v2"]
    assert Registry(tmp_path / "sota").champions() == {"titanic": "v1"}
    assert json.loads((tmp_path / "log.jsonl").read_text()) == entry
    assert not (shell.home / "registry").exists()


def test_defaults_come_from_a_file_of_settings(shell, tmp_path):
    passengers(tmp_path / "new.csv", 150)
    shell.environment["INFLIGHT_ENV_FILE"] = "settings.env"
    (tmp_path / "settings.env").write_text(
        "INFLIGHT_TRAIN_DATA_SOURCE=new.csv\nINFLIGHT_TRAIN_DATA_TARGET=data\nINFLIGHT_TRAIN_MODELS_TARGET=models\n"
        "INFLIGHT_TRAIN_SOTA_TARGET=sota\nINFLIGHT_TRAIN_LOG_TARGET=log.jsonl\nINFLIGHT_TRAIN_N_MODELS=1\n"
    )
    [entry] = shell.entries("titanic")
    assert [source["name"] for source in entry["sources"]] == ["new.csv"]
    assert len(entry["models"]) == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.name not in ("settings.env", "home", "new.csv")) == [
        "data",
        "log.jsonl",
        "models",
        "sota",
    ]


def test_only_what_is_missing_is_trained(shell, champion):
    """So that a deployment can say it at every start."""
    assert shell.entries("titanic", "--missing") == []
    assert shell.champion() == champion


def test_what_is_printed_for_people_tells_candidates_intervals_and_the_reason(shell):
    done = shell.train("titanic", "-n", 2)
    assert done.returncode == 0, done.stderr
    assert "* logistic-regression (1 configuration," in done.stdout
    assert "  gradient-boosting (1 configuration," in done.stdout
    assert "rows/s: " in done.stdout
    assert "on 183 held-out rows: accuracy 0." in done.stdout
    assert "(in brackets: 95 % confidence intervals)" in done.stdout
    assert "titanic v1: champion: the first version" in done.stdout
    assert done.stderr == ""


def test_a_bar_shows_the_progress_on_a_terminal(shell):
    ours, theirs = pty.openpty()
    done = subprocess.Popen(
        [*COMMAND, "titanic", "-n", "1", "--json"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        cwd=shell.folder,
        env=shell.environment | {"TERM": "xterm"},
    )
    os.close(theirs)
    seen = b""
    while True:
        try:
            chunk = os.read(ours, 65_536)
        except OSError:  # The other end is closed.
            break
        if not chunk:
            break
        seen += chunk
    output, _ = done.communicate(timeout=600)
    os.close(ours)
    assert done.returncode == 0, seen
    assert b"cross-validating logistic-regression" in seen
    assert b"/21" in seen
    assert json.loads(output)[0]["outcome"] == "completed"


def test_a_folder_of_new_files_is_added_to_the_dataset(shell, tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    passengers(folder / "1.csv", 30)
    line = {"pclass": 1, "sex": "female", "sibsp": 0, "parch": 0, "fare": 80.0, "survived": True}
    (folder / "2.jsonl").write_text(json.dumps(line) + "\n")
    [entry] = shell.entries("titanic", "-ds", "dataset", "-ds", folder, "-n", 1)
    assert [(Path(source["name"]).name, source["rows"]) for source in entry["sources"]] == [
        ("dataset", 891),
        ("1.csv", 30),
        ("2.jsonl", 1),
    ]
    assert entry["rows_trained"] + entry["rows_held_out"] == 922
    assert Path(entry["sources"][1]["kept"]).exists()


def test_the_prediction_log_with_labels_is_a_source(shell, tmp_path):
    examples = list(islice(Titanic.examples(), 120))
    with SqlitePredictionLog(shell.home / "predictions.sqlite") as log:
        log.append(
            PredictionRecord(
                request_id=f"r{number}",
                model="titanic",
                model_version="v1",
                outcome="completed",
                features=msgspec.Raw(msgspec.json.encode(example.features)),
                created_at=datetime(2026, 1, 1, tzinfo=UTC),
                score_seconds=0.0,
                batch_size=1,
            )
            for number, example in enumerate(examples)
        )
    labels = "".join(f"r{number},{str(example.label).lower()}\n" for number, example in enumerate(examples[:100]))
    (tmp_path / "labels.csv").write_text("request_id,label\n" + labels)
    [entry] = shell.entries("titanic", "-ds", "log:labels.csv", "-n", 1)
    assert entry["rows_trained"] + entry["rows_held_out"] == 100


def test_a_better_version_is_announced_to_running_workers_if_there_is_a_broker(shell, tmp_path):
    """The champion was trained on labels that mean nothing."""
    rows = list(DATASET.rows())
    random = np.random.default_rng(1)
    with (tmp_path / "noise.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"Survived": str(random.integers(2))} for row in rows)
    [first] = shell.entries("titanic", "-ds", "noise.csv", "-n", 1)
    champion = first["version"]
    done = shell.train("titanic", "-n", 1, "--json")
    assert done.returncode == 0, done.stderr
    [entry] = json.loads(done.stdout)
    assert entry["promoted"], entry["reason"]
    assert shell.champion() == entry["version"] != champion
    assert "Running workers poll the registry" in done.stderr


def test_turned_around_labels_promote_nothing_but_a_person_may(shell, tmp_path, champion):
    """Whoever survived, did not. By such labels the new version is far better; it may be an error, or an attack."""
    rows = list(DATASET.rows())
    with (tmp_path / "new.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"Survived": str(1 - int(row["Survived"]))} for row in rows)
    [entry] = shell.entries("titanic", "-ds", "new.csv", "-n", 1)
    assert not entry["promoted"]
    assert "but worse on the" in entry["reason"]
    assert f"inflight models promote titanic:{entry['version']}" in entry["reason"]
    assert shell.champion() == champion


# Each candidate by itself: tests/unit/model/test_candidates.py.
@pytest.mark.parametrize("filled", [0, 1] if FULL else [0])
def test_a_column_that_is_empty_in_all_rows_or_all_but_one_does_not_end_the_training(shell, tmp_path, filled):
    rows = list(DATASET.rows())[:200]
    with (tmp_path / "new.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        for number, row in enumerate(rows):
            empty = {} if number < filled else {"Age": "", "Cabin": "", "Embarked": "", "Name": ""}
            writer.writerow(row | empty)
    [entry] = shell.entries("titanic", "-ds", "new.csv", "-n", 3)
    assert entry["promoted"]
    assert [model["candidate"] for model in entry["models"]] == [
        "logistic-regression",
        "gradient-boosting",
        "random-forest",
    ]

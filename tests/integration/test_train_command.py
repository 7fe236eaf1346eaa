"""`inflight train` as a user runs it: its flags, fresh data, a new model's folder, and real faults."""

import csv
import json
import os
import pty
import resource
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import msgspec
import pytest

import model as model_package
from machine_learning_engineering.prediction_log import LoggedPrediction, SqlitePredictionLog
from machine_learning_engineering.registry import Registry
from model.titanic import Titanic
from model.titanic.dataset import DATASET

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


@pytest.fixture
def shell(tmp_path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, str]:
    """A home with a champion, and its version."""
    shell = Shell(tmp_path_factory.mktemp("trained"))
    [entry] = shell.entries("titanic", "-n", 1)
    assert entry["promoted"]
    return shell.home, entry["version"]


@pytest.fixture
def champion(shell, trained) -> str:
    """The version of a champion that a fault must not touch."""
    home, version = trained
    shutil.copytree(home, shell.home)
    return version


def passengers(path: Path, count: int, *, spoil: dict[str, str] | None = None) -> Path:
    """The first passengers in Kaggle's own columns, of which the last may be spoilt."""
    rows = list(islice(DATASET.rows(), count))
    rows[-1] |= spoil or {}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


# --- flags -----------------------------------------------------------------------------------------------------------


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
    (tmp_path / ".env").write_text(
        "INFLIGHT_TRAIN_DATA_SOURCE=new.csv\nINFLIGHT_TRAIN_DATA_TARGET=data\nINFLIGHT_TRAIN_MODELS_TARGET=models\n"
        "INFLIGHT_TRAIN_SOTA_TARGET=sota\nINFLIGHT_TRAIN_LOG_TARGET=log.jsonl\nINFLIGHT_TRAIN_N_MODELS=1\n"
    )
    [entry] = shell.entries("titanic")
    assert [source["name"] for source in entry["sources"]] == ["new.csv"]
    assert len(entry["models"]) == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.name not in (".env", "home", "new.csv")) == [
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
    assert "on 178 held-out rows: accuracy 0." in done.stdout
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
    output, _ = done.communicate(timeout=60)
    os.close(ours)
    assert done.returncode == 0, seen
    assert b"cross-validating logistic-regression" in seen
    assert b"/21" in seen
    assert json.loads(output)[0]["outcome"] == "completed"


# --- fresh data ------------------------------------------------------------------------------------------------------


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
            LoggedPrediction(
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


def test_a_better_version_is_announced_to_running_workers_if_there_is_a_broker(shell, tmp_path, champion):
    """The world is turned around: whoever survived, did not. A champion of the old world is of no use in it."""
    rows = list(DATASET.rows())
    with (tmp_path / "new.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(row | {"Survived": str(1 - int(row["Survived"]))} for row in rows)
    done = shell.train("titanic", "-ds", "new.csv", "-n", 1, "--json")
    assert done.returncode == 0, done.stderr
    [entry] = json.loads(done.stdout)
    assert entry["promoted"]
    assert shell.champion() == entry["version"] != champion
    assert "Running workers look into the registry" in done.stderr


# --- faults ----------------------------------------------------------------------------------------------------------


def test_bad_data_is_named_by_line_and_field(shell, tmp_path, champion):
    path = passengers(tmp_path / "new.csv", 50, spoil={"Fare": "-3"})
    done = shell.train("titanic", "-ds", path)
    assert done.returncode == 1
    assert "titanic was not trained, its champion stays:\n1 of 50 records are not accepted:\n" in done.stderr
    assert f"{path} line 51: feature `fare` must be a number of at least 0" in done.stderr
    assert shell.champion() == champion
    assert shell.log()[-1]["outcome"] == "failed"


@pytest.mark.parametrize("source", ["nowhere", "empty", "log", "log:nowhere.csv"])
def test_a_source_that_can_not_be_read_is_named(shell, tmp_path, champion, source):
    (tmp_path / "empty").mkdir()
    done = shell.train("titanic", "-ds", source)
    assert done.returncode == 1
    assert "titanic was not trained" in done.stderr
    assert "Traceback" not in done.stderr
    assert source.partition(":")[0] in done.stderr
    assert shell.champion() == champion


def files_are_limited_to(size: int):
    """Makes the kernel refuse to write files beyond a size, as it does on a full disk; run in the child."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize(("size", "kept"), [(20_000, 0), (200_000, 1)], ids=["a layer", "a model"])
def test_files_that_can_not_be_written_are_an_error(shell, champion, size, kept):
    """Layers of the Titanic are larger than 20 kB, and all of its models but the linear one are larger than 200 kB."""
    before = Registry(shell.home / "history").versions("titanic")
    done = shell.train("titanic", "-n", 2, preexec_fn=files_are_limited_to(size))
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert shell.champion() == champion
    left = [path for path in shell.home.rglob("*") if path.name.startswith((".partial", ".saving"))]
    assert left == []
    assert len(Registry(shell.home / "history").versions("titanic")) == len(before) + kept
    assert shell.log()[-1]["error"].startswith("OSError: [Errno 27] File too large")


@pytest.mark.parametrize("flag", ["-dt", "-mt", "-lt", "-st"])
def test_a_full_disk_is_an_error_for_each_target(shell, tmp_path, champion, flag):
    disk = tmp_path / "disk"
    disk.mkdir()
    own_mounts = ("unshare", "--user", "--map-root-user", "--mount")
    script = 'mount -t tmpfs -o size=8k none "$0" && head -c 8192 /dev/zero > "$0/filler"; exec "$@"'
    probe = [*own_mounts, "sh", "-c", 'mount -t tmpfs -o size=8k none "$0"', str(disk)]
    if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("this system does not let a test mount a disk of its own")
    target = disk / "log.jsonl" if flag == "-lt" else disk
    done = shell.train("titanic", "-n", 1, flag, target, before=(*own_mounts, "sh", "-c", script, str(disk)))
    assert done.returncode == 1, done.stdout
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert shell.champion() == champion
    if flag == "-lt":
        assert "The training log could not be written either" in done.stderr
    else:
        assert "No space left on device" in shell.log()[-1]["error"]


def test_other_models_are_trained_although_one_fails(shell, tmp_path):
    path = passengers(tmp_path / "new.csv", 60)
    done = shell.train("diamonds", "titanic", "-ds", path, "-n", 1, "--json")
    assert done.returncode == 1
    assert "diamonds was not trained" in done.stderr
    assert [entry["model"] for entry in json.loads(done.stdout)] == ["titanic"]


# --- a new model is one new folder -----------------------------------------------------------------------------------

EMERALDS = '''
"""The weight of an emerald from its length."""

from collections.abc import Sequence

import msgspec
import numpy as np

from machine_learning_engineering.candidates import Candidate
from machine_learning_engineering.metrics import regression_metrics
from machine_learning_engineering.model import Example, MLEModel


class Features(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    length: float


class Prediction(msgspec.Struct, frozen=True):
    carat: float


def line(params, seed):
    from sklearn.linear_model import LinearRegression

    return LinearRegression()


def tree(params, seed):
    from sklearn.tree import DecisionTreeRegressor

    if params.get("broken"):
        raise MemoryError("no room for a tree")
    return DecisionTreeRegressor(max_depth=1, random_state=seed)


class Emeralds(MLEModel):
    name = "emeralds"
    Features = Features
    Prediction = Prediction
    primary_metric = "r2"
    trusted_types = frozenset({"sklearn.tree._tree.Tree"})

    @classmethod
    def examples(cls, data_dir=None):
        return (Example({"length": n / 10}, n / 4) for n in range(100))

    def new_estimator(self, seed):
        return line({}, seed)

    def candidates(self):
        return [Candidate("line", line), Candidate("tree", tree, DEFAULTS)]

    def columns(self, rows: Sequence[Features]):
        return np.array([[row.length] for row in rows]).reshape(len(rows), 1)

    def predict(self, rows):
        return [Prediction(value) for value in self.estimator.predict(self.columns(rows)).tolist()] if rows else []

    def evaluate(self, predictions, labels):
        return regression_metrics([prediction.carat for prediction in predictions], labels)


DEFAULTS = {}
MODEL = Emeralds
'''


@pytest.fixture
def emeralds(shell, tmp_path) -> Path:
    """The code of a model that is one new folder beside the others; nothing else is changed."""
    [folder] = model_package.__path__
    shutil.copytree(folder, tmp_path / "model", ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "model" / "emeralds" / "__init__.py"
    path.parent.mkdir()
    path.write_text(EMERALDS)
    # A module in the working folder comes first.
    shell.environment["PYTHONPATH"] = str(tmp_path)
    return path


def test_a_new_folder_is_a_new_model_with_the_same_pipeline(shell, emeralds):
    [entry] = shell.entries("emeralds")
    assert [model["candidate"] for model in entry["models"]] == ["line", "tree"]
    assert entry["metrics"]["r2"] == pytest.approx(1.0)
    assert list(entry["layers"]) == ["bronze", "silver", "gold"]
    assert entry["promoted"]
    assert "there are diamonds, emeralds, " in shell.train("rubies").stderr


def test_a_failing_fit_is_named_and_the_champion_stays(shell, emeralds):
    [entry] = shell.entries("emeralds")
    emeralds.write_text(EMERALDS.replace("DEFAULTS = {}", 'DEFAULTS = {"broken": True}'))
    done = shell.train("emeralds")
    assert done.returncode == 1
    assert "emeralds was not trained, its champion stays:\n" in done.stderr
    assert "the candidate tree failed: MemoryError: no room for a tree" in done.stderr
    assert Registry(shell.home / "registry").champions() == {"emeralds": entry["version"]}

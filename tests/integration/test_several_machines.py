"""Two machines that share nothing but a broker, an S3 bucket and a key: one trains and promotes, one serves."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import pytest

from inflight.settings import Settings
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.schemas import PredictionCompleted
from machine_learning_engineering.events.topics import RESULTS
from machine_learning_engineering.kafka.client import read_to_end
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.storage.location import Location
from machine_learning_engineering.storage.opening import open_store
from machine_learning_engineering.training import run_log
from model.titanic.model import Titanic
from producers.request_builder import Request
from tests.support.deployment import Deployment
from tests.support.object_store import SECRET, S3Server
from tests.support.train_shell import passengers
from tests.support.waiting import figures, until

KEY = "a-key-that-both-machines-have-0123"


class Machine:
    """A home of its own; the registry is behind the URL."""

    def __init__(self, home: Path, bucket: str, settings: Settings) -> None:
        self.home = home
        self.bucket = bucket
        self.environment = {
            "INFLIGHT_HOME": str(home),
            "INFLIGHT_REGISTRY": f"{bucket}/registry",
            "INFLIGHT_REGISTRY_SIGNING_KEY": KEY,
            "INFLIGHT_REGISTRY_TIMEOUT": "3",
            "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "INFLIGHT_TOPIC_PREFIX": settings.topic_prefix,
            "NO_COLOR": "1",
            "COLUMNS": "200",
        }

    def inflight(self, *words: object, code: int = 0) -> str:
        """Run a command; its output, or what it says on standard error if it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "inflight.cli", *map(str, words)],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == code, done.stderr
        assert SECRET not in done.stdout + done.stderr
        assert KEY not in done.stdout + done.stderr
        return done.stderr if code else done.stdout

    @property
    def registry(self) -> Registry:
        return Registry(Location(f"{self.bucket}/registry", cache=self.home / "cache", keys=(KEY,)))


@pytest.fixture
def bucket(s3: S3Server) -> str:
    return s3.new_bucket()


@pytest.fixture
def trainer(tmp_path: Path, bucket: str, settings: Settings) -> Machine:
    return Machine(tmp_path / "trainer", bucket, settings)


def train(machine: Machine, *sources: object) -> dict[str, Any]:
    targets = {"-dt": "layers", "-mt": "history", "-lt": "trainings"}
    options = [word for flag, folder in targets.items() for word in (flag, f"{machine.bucket}/{folder}")]
    given = [word for source in sources for word in ("-ds", source)]
    [entry] = json.loads(machine.inflight("train", "titanic", "-n", 1, *options, *given, "--json"))
    return entry  # type: ignore[no-any-return]


@pytest.fixture
def deployment(tmp_path: Path, trainer: Machine, settings: Settings) -> Iterator[Deployment]:
    """Workers on another machine."""
    machine = Machine(tmp_path / "server", trainer.bucket, settings)
    with Deployment(settings, settings, Titanic()) as found:
        found.environment |= machine.environment
        yield found


@pytest.fixture(scope="module")
def passenger_model() -> Titanic:
    """Fitted on the first passengers, once."""
    model = Titanic()
    examples = list(islice(Titanic.examples(), 200))
    rows = [model.decode(msgspec.json.encode(example.features)) for example in examples]
    model.fit(rows, [example.label for example in examples], seed=1)
    return model


@pytest.fixture
def two_versions(trainer: Machine, passenger_model: Titanic) -> None:
    """Two versions in the registry, of which the first is the champion."""
    for _ in range(2):
        trainer.registry.save(passenger_model, metrics={"accuracy": 0.8}, training_data_sha256="", seed=1)
    trainer.registry.promote("titanic", "v1")


def answers(deployment: Deployment, count: int = 40, prefix: str = "f") -> set[str]:
    """Have this number of passengers scored; the versions that answered them."""
    requests = [Request(features, model="titanic") for features in islice(Titanic.example_requests(), count)]
    report = deployment.load(requests, prefix=prefix).report()
    deployment.settles()
    found = [events.decode_result(message.value()) for message in read_to_end(deployment.settings, RESULTS)]
    ours = [one for one in found if one.request_id in set(report.ids["accepted"])]
    assert len(ours) == count
    assert all(isinstance(one, PredictionCompleted) for one in ours)
    return {one.model_version for one in ours if isinstance(one, PredictionCompleted)}


def test_all_of_a_training_is_behind_urls(trainer: Machine, tmp_path: Path) -> None:
    """Data from a bucket; layers, candidates, log and champion to it; nothing of them in the home."""
    lake = open_store(Location(f"{trainer.bucket}/lake"))
    lake.write_if_absent("day/1.csv", passengers(tmp_path / "1.csv", 500).read_bytes())
    line = {"pclass": 1, "sex": "female", "sibsp": 0, "parch": 0, "fare": 80.0, "survived": True}
    lake.write_if_absent("day/2.jsonl", msgspec.json.encode(line) + b"\n")
    lake.write_if_absent("day/.hidden", b"")
    lake.write_if_absent("day/more/4.csv", b"")
    lake.write_if_absent("other/3.csv", passengers(tmp_path / "3.csv", 100).read_bytes())
    entry = train(trainer, f"{trainer.bucket}/lake/day", f"{trainer.bucket}/lake/other/3.csv")
    assert [(one["name"], one["rows"]) for one in entry["sources"]] == [
        (f"{trainer.bucket}/lake/day/1.csv", 500),
        (f"{trainer.bucket}/lake/day/2.jsonl", 1),
        (f"{trainer.bucket}/lake/other/3.csv", 100),
    ]
    bucket = open_store(Location(trainer.bucket))
    keys = {one.key for one in bucket.files("") if not one.key.startswith("lake/")}
    for source in entry["sources"]:
        assert source["kept"].removeprefix(f"{trainer.bucket}/") in keys
    for layer in entry["layers"].values():
        assert layer["path"].removeprefix(f"{trainer.bucket}/") in keys
    assert {"history/titanic/v1/manifest.json", "registry/titanic/v1/manifest.json"} <= keys
    [logged] = [json.loads(bucket.read(key)) for key in keys if key.startswith("trainings/")]
    assert (logged["run_id"], logged["promoted"]) == (entry["run_id"], True)
    [read] = run_log.read(Location(f"{trainer.bucket}/trainings"))
    assert read.run_id == entry["run_id"]
    found = {path.relative_to(trainer.home).parts[0] for path in trainer.home.rglob("*") if path.is_file()}
    assert found <= {"data", "registry-cache", "tried-versions"}
    assert trainer.registry.champions() == {"titanic": "v1"}
    missing = trainer.inflight("train", "titanic", "-ds", f"{trainer.bucket}/nothing", code=1)
    assert f"{trainer.bucket}/nothing has no files" in missing


@pytest.mark.usefixtures("two_versions")
def test_a_worker_of_another_machine_serves_what_is_promoted(
    s3: S3Server, trainer: Machine, deployment: Deployment
) -> None:
    """Promotions arrive; an unavailable, slow or denying bucket changes nothing, not even for a worker that starts."""
    worker = deployment.worker(worker_model_poll_interval=0.5)
    deployment.serving(1)
    assert answers(deployment, prefix="first") == {"v1"}
    trainer.inflight("models", "promote", "titanic:v2", "--reason", "on the other machine")
    took = until(lambda: worker.metric("inflight_worker_model_info", model_version="v2") == 1, 60, "v2 is served")
    figures(served_after=f"{took:.2f} s")
    assert answers(deployment, prefix="second") == {"v2"}
    for fault in ({"status": 403}, {"delay": 4.0, "path": "aliases.json"}):
        with s3.fault(**fault):
            until(lambda: worker.metric("inflight_worker_registry_unreadable") == 1, 60, "the worker notices")
            assert worker.metric("inflight_worker_model_info", model_version="v2") == 1
        until(lambda: worker.metric("inflight_worker_registry_unreadable") == 0, 60, "the worker sees it back")
    with s3.fault(status=403):
        pid = worker.pid
        deployment.kill(worker)
        until(lambda: worker.serves() and worker.pid != pid, 120, "it starts without the bucket")
        deployment.serving(1)
        assert answers(deployment, prefix="cached") == {"v2"}
    said = worker.log_path.read_text()
    assert "denies access to" in said
    assert "what was read of it before is used, from" in said
    assert SECRET not in said
    assert KEY not in said


@pytest.mark.usefixtures("two_versions")
def test_who_can_write_the_bucket_can_not_change_what_is_served(trainer: Machine, deployment: Deployment) -> None:
    """Unsigned, changed and replayed files are refused, each by one clear line; the old version serves."""
    store = trainer.registry.files.store
    old = store.read("titanic/aliases.json")
    trainer.registry.promote("titanic", "v2")
    new = store.read("titanic/aliases.json")
    worker = deployment.worker(worker_model_poll_interval=0.3)
    deployment.serving(1)
    assert answers(deployment, prefix="first") == {"v2"}

    def put(key: str, content: bytes) -> None:
        with store.edit(key) as file:
            file.replace(content)

    attacks = {
        "is not signed": json.dumps({"aliases": {"champion": "v1"}}).encode(),
        "was changed after it was signed": new.replace(b'"champion": "v2"', b'"champion": "v1"', 1),
        "are an old file: revision 1, this machine has read 2": old,
    }
    for line, content in attacks.items():
        put("titanic/aliases.json", content)
        until(lambda line=line: line in worker.log_path.read_text(), 60, line)  # type: ignore[misc]
        assert worker.metric("inflight_worker_registry_unreadable") == 1
        assert worker.metric("inflight_worker_model_info", model_version="v2") == 1
    assert answers(deployment, prefix="attacked") == {"v2"}
    put("titanic/aliases.json", new)
    until(lambda: worker.metric("inflight_worker_registry_unreadable") == 0, 60, "all is well again")
    # A version of their own, complete and with right digests, but without the key.
    theirs = Registry(Location(f"{trainer.bucket}/registry"))
    model = theirs.open("titanic", "v1", model_class=Titanic)
    assert theirs.save(model, metrics={"accuracy": 1.0}, training_data_sha256="", seed=1) == "v3"
    said = trainer.inflight("models", "promote", "titanic:v3", code=1)
    assert "titanic/v3/manifest.json is not signed; it was not used" in said
    assert trainer.registry.champions() == {"titanic": "v2"}


PROMOTE = """
import sys
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.settings import load_settings

Registry(load_settings().registry_dir).promote("titanic", "v2", reason=sys.argv[1])
"""


@pytest.mark.usefixtures("two_versions")
def test_a_promotion_that_is_killed_happens_or_does_not(s3: S3Server, trainer: Machine) -> None:
    """kill -9 before, while and after the write arrives: the aliases are whole, and their history fits them."""
    registry = trainer.registry
    outcomes = []
    for number, fault in enumerate(
        ({"path": "v2", "method": "GET"}, {"method": "PUT"}, {"method": "PUT", "after": True})
    ):
        registry.promote("titanic", "v1", reason=f"before {number}")
        history = registry.history("titanic")
        with s3.fault(delay=1.0, **fault):
            process = subprocess.Popen(
                [sys.executable, "-c", PROMOTE, f"killed {number}"], env=os.environ | trainer.environment
            )
            until(s3.met_fault, 60, "the promotion is under way")
            process.send_signal(signal.SIGKILL)
            process.wait()
        until(lambda: registry.files.store.stamp("titanic/aliases.json") is not None, 60, "the bucket answers")
        champion = registry.champions()["titanic"]
        outcomes.append(champion)
        now = registry.history("titanic")
        assert now[: len(history)] == history
        assert [one.reason for one in now[len(history) :]] == ([f"killed {number}"] if champion == "v2" else [])
    assert outcomes[0] == "v1"
    assert outcomes[2] == "v2"
    trainer.inflight("models", "rollback", "titanic")
    assert registry.champions() == {"titanic": "v1"}


SAVE = """
import sys
from pathlib import Path
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.settings import load_settings
from machine_learning_engineering.training import run_log
from model.titanic.model import Titanic

registry = Registry(load_settings().registry_dir)
model = registry.open("titanic", "v1", model_class=Titanic)
print(registry.save(model, metrics={"accuracy": 0.8}, training_data_sha256="", seed=1))
"""


@pytest.mark.usefixtures("two_versions")
def test_a_save_that_is_killed_leaves_no_version_and_a_number_that_nobody_uses(s3: S3Server, trainer: Machine) -> None:
    registry, command = trainer.registry, [sys.executable, "-c", SAVE]
    with s3.fault(method="PUT", path="titanic/v3/manifest.json", delay=2.0, status=500):
        process = subprocess.Popen(command, env=os.environ | trainer.environment)
        until(s3.met_fault, 120, "the version is being saved")
        process.send_signal(signal.SIGKILL)
        process.wait()
    until(lambda: registry.versions("titanic") == ["v1", "v2"], 60, "the bucket answers")
    assert registry.files.store.stamp("titanic/v3/model.skops") is not None
    assert registry.champions() == {"titanic": "v1"}
    saved = subprocess.run(command, env=os.environ | trainer.environment, capture_output=True, text=True, check=True)
    assert saved.stdout == "v4\n"
    assert [version.version for version, _ in registry.overview()[0]] == ["v1", "v2", "v4"]

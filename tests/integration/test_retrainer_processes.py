"""Retraining by itself, with real processes: races, kills, and prices that rise."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import msgspec
import psutil
import pytest

from inflight.settings import Settings
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.schemas import RolloutChanged
from machine_learning_engineering.events.topics import MODEL_EVENTS
from machine_learning_engineering.kafka.client import read_to_end
from machine_learning_engineering.registry import retrainings
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.rollout.retraining import Run
from machine_learning_engineering.rollout.schedule import newest_slot
from machine_learning_engineering.sdk import MLEModel
from model.titanic.model import Titanic
from producers.labels import RequestLabel
from tests.support.deployment import Deployment
from tests.support.labelled import DAY, publish
from tests.support.object_store import S3Server
from tests.support.waiting import until

EVERY_SECOND = """[models.titanic.retraining]
schedule = "* * * * * *"
drift = false
quality = false
data = ["dataset"]
"""


@pytest.fixture(scope="module")
def passengers() -> Titanic:
    """Fitted on the first passengers, once."""
    model = Titanic()
    examples = list(islice(Titanic.examples(), 200))
    rows = [model.decode(msgspec.json.encode(example.features)) for example in examples]
    model.fit(rows, [example.label for example in examples], seed=1)
    return model


class Machine:
    """A home with a policy of its own; the registry is the one of all."""

    def __init__(self, home: Path, registry: str, policy: str = EVERY_SECOND) -> None:
        home.mkdir()
        file = home / "inflight.toml"
        file.write_text(policy)
        file.chmod(0o600)
        own = {"INFLIGHT_HOME": str(home), "INFLIGHT_REGISTRY": registry, "NO_COLOR": "1"}
        self._environment = {**os.environ, **own}

    def retrains(self) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "inflight.cli", "retrain", "--due", "--json"]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self._environment, stdout=pipe, stderr=pipe, text=True)


def runs(registry: Registry, model: str = "titanic") -> tuple[Run, ...]:
    return retrainings.read(registry.files, model).runs


def serve(registry: Registry, model: Titanic) -> None:
    registry.save(model, metrics={"accuracy": 0.8}, training_data_sha256="", seed=1)
    registry.promote("titanic", "v1")
    trained_at = registry.manifest("titanic", "v1").created_at
    until(lambda: newest_slot("* * * * * *", datetime.now(UTC)) > trained_at, 60, "a second is over")


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "registry")
    server: S3Server = request.getfixturevalue("s3")
    return f"{server.new_bucket()}/registry"


def test_of_several_machines_one_trains(place: str, passengers: Titanic, tmp_path: Path) -> None:
    """Whichever slots they find due, in a folder and in a bucket."""
    registry = Registry(place)
    serve(registry, passengers)
    machines = [Machine(tmp_path / f"home-{number}", place) for number in range(3)]
    outcomes = []
    for process in [machine.retrains() for machine in machines]:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        [report] = json.loads(out)
        outcomes.append((report["outcome"], report["reason"]))
    assert [outcome for outcome, _ in outcomes].count("rollout") == 1, outcomes
    assert {outcome for outcome, _ in outcomes} <= {"rollout", "not_due"}
    [run] = runs(registry)
    assert (run.outcome, run.attempts, run.version) == ("rollout", 1, "v2")
    rollouts = registry.rollouts("titanic")
    assert rollouts.current is not None
    assert (rollouts.current.challenger, rollouts.past) == ("v2", ())
    assert registry.versions("titanic") == ["v1", "v2"]
    assert registry.champions() == {"titanic": "v1"}


def test_killed_at_any_moment_it_is_taken_up_and_the_champion_never_notices(
    passengers: Titanic, tmp_path: Path
) -> None:
    """After the claim, and after the version is saved: the training is repeated only if there is none."""
    registry = Registry(tmp_path / "registry")
    serve(registry, passengers)
    machine = Machine(tmp_path / "home", str(tmp_path / "registry"))
    moments: list[Callable[[], bool]] = [
        lambda: bool(runs(registry)),
        lambda: "v2" in registry.versions("titanic"),
    ]
    for moment in moments:
        process = machine.retrains()
        while not moment():
            assert process.poll() is None, process.communicate()
        trains = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        # What trains ends with its parent.
        until(lambda found=trains: not any(one.is_running() and one.status() != "zombie" for one in found), 60, "ended")  # type: ignore[misc]
        assert registry.champions() == {"titanic": "v1"}
        assert registry.open("titanic", model_class=Titanic).version == "v1"
        assert [run.outcome for run in runs(registry)] in (["running"], ["rollout"])
    last = machine.retrains()
    out, err = last.communicate(timeout=300)
    assert last.returncode == 0, err
    [report] = json.loads(out)
    [run] = runs(registry)
    # The last kill may have come after all was done.
    assert (run.outcome, run.version) == ("rollout", "v2"), report
    assert registry.versions("titanic") == ["v1", "v2"]
    assert registry.manifest("titanic", "v2").lineage.training_run == f"titanic/{run.trigger.slot}"
    rollouts = registry.rollouts("titanic")
    assert rollouts.current is not None
    assert (rollouts.current.rollout_id, rollouts.past) == (run.rollout_id, ())


@pytest.fixture
def dearer(settings: Settings, models: Settings, diamonds: MLEModel, tmp_path: Path) -> Iterator[Deployment]:
    """A deployment with a registry of its own."""
    home = Path(shutil.copytree(models.home, tmp_path / "home"))
    with Deployment(settings, models.model_copy(update={"home": home}), diamonds) as found:
        yield found


@pytest.mark.usefixtures("search")
def test_prices_that_rise_are_seen_and_lead_to_a_rollout(dearer: Deployment, tmp_path: Path) -> None:
    """By the live quality, over the real broker and search node; nobody does anything."""
    policy = tmp_path / "home" / "inflight.toml"
    policy.write_text(
        "[models.diamonds.retraining]\ndrift = false\nfalse_alarms_per_year = 0.5\ncool_down = 0\ndeadline = 600\n"
        '[models.diamonds.rollout]\nmin_step = 1\nmax_shadow = "1h"\n'
    )
    policy.chmod(0o600)
    dearer.worker()
    dearer.indexer()
    dearer.label_joiner(quality_interval=1)
    retrainer = dearer.retrainer(retrainer_interval=1)
    registry = Registry(tmp_path / "home" / "registry")
    count = 600
    prefix = dearer.settings.topic_prefix
    dearer.load(count, prefix=prefix).report()
    prices = enumerate(dearer.prices(count))
    publish(dearer, [RequestLabel(f"{prefix}-{n:08d}", "diamonds", price * 1.4, DAY) for n, price in prices])
    until(lambda: registry.rollout("diamonds") is not None, 180, "a rollout is open")
    rollout = registry.rollout("diamonds")
    assert rollout is not None
    assert (rollout.champion, rollout.challenger, rollout.steps[0].by) == ("v1", "v2", "retrainer")
    assert rollout.trigger.startswith("quality-")
    until(lambda: runs(registry, "diamonds")[-1].outcome == "rollout", 60, "the run is finished")
    [run] = [one for one in runs(registry, "diamonds") if one.outcome != "kept"]
    assert run.rollout_id == rollout.rollout_id
    # The search node may hold labelled rows of other deployments.
    assert run.rows >= 200
    notes = registry.manifest("diamonds", "v2").params["retraining"]
    assert notes["trigger"]["evidence"]["upper"] < notes["trigger"]["evidence"]["reference"]
    assert registry.champions() == {"diamonds": "v1"}
    announced = [events.decode_model_event(one.value()) for one in read_to_end(dearer.settings, MODEL_EVENTS)]
    assert any(isinstance(one, RolloutChanged) and one.challenger == "v2" for one in announced)
    labels = {"model": "diamonds", "outcome": "rollout", "trigger": "quality"}
    until(lambda: retrainer.metric("inflight_retrainer_runs_total", **labels) == 1, 60, "the run is counted")

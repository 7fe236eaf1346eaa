"""A new champion takes over in a running worker: no restart, no request lost, each answered by one version."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from inflight.settings import Settings
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.schemas import PredictionCompleted
from machine_learning_engineering.events.topics import MODEL_EVENTS, REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import read_to_end
from machine_learning_engineering.kafka.promotions import PromotionNotAnnounced, announce_promotion
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.skops_file import MODEL_FILE
from machine_learning_engineering.sdk import MLEModel
from tests.support.deployment import UNTIL_STOPPED, Deployment
from tests.support.waiting import figures, until

LONG = 3_600


@pytest.fixture
def own(tmp_path: Path, models: Settings) -> Settings:
    """A home of its own with a copy of the trained registry: champions change here."""
    home = models.model_copy(update={"home": tmp_path / "home"})
    shutil.copytree(models.registry_dir, home.registry_dir)
    return home


@pytest.fixture
def deployment(settings: Settings, own: Settings, diamonds: MLEModel) -> Iterator[Deployment]:
    """Workers that read the champion from that registry."""
    with Deployment(settings, own, diamonds) as found:
        yield found


def next_version(own: Settings, diamonds: MLEModel) -> str:
    """Another version, fitted on other rows, so that its prices differ."""
    model: Any = type(diamonds)()
    examples = list(model.examples(own.data_dir))[::20]
    rows = [model.decode(msgspec.json.encode(example.features)) for example in examples]
    model.fit(rows, [example.label for example in examples], seed=7)
    return Registry(own.registry_dir).save(model, metrics={"r2": 0.9}, training_data_sha256="0" * 64, seed=7)


def results(settings: Settings) -> list[PredictionCompleted]:
    found = [events.decode_result(message.value()) for message in read_to_end(settings, RESULTS)]
    completed = [result for result in found if isinstance(result, PredictionCompleted)]
    assert len(completed) == len(found)
    return completed


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "found-in-the-registry"])
def test_a_promotion_in_the_middle_of_the_load(
    deployment: Deployment, own: Settings, diamonds: MLEModel, announced: bool
) -> None:
    """Two workers, requests all the time: none lost, none twice, each price that of the version which it names."""
    worker, other = [deployment.worker(worker_model_poll_interval=LONG if announced else 0.5) for _ in range(2)]
    deployment.serving(2)
    runs = (worker.pid, other.pid)
    registry = Registry(own.registry_dir)
    version = next_version(own, diamonds)
    load = deployment.load(UNTIL_STOPPED, rate=800)
    load.reaches(1_500)
    registry.promote("diamonds", version)
    if announced:
        announce_promotion(deployment.settings, "diamonds", version, reason="a test", previous="v1")
    took = until(
        lambda: all(one.metric("inflight_worker_model_info", model_version=version) for one in (worker, other)),
        300,
        "both workers serve the new version",
    )
    reached = load.accepted
    load.reaches(reached + 1_500)
    load.stop()
    report = load.report()
    deployment.settles()
    answers = results(deployment.settings)
    asked = {
        request.request_id: request.features
        for request in (
            events.decode_request(message.value()) for message in read_to_end(deployment.settings, REQUESTS)
        )
    }
    assert len(answers) == len(asked) == report.accepted
    assert {answer.request_id for answer in answers} == set(asked)
    opened = {name: registry.open("diamonds", name, model_class=type(diamonds)) for name in ("v1", version)}
    for name, model in opened.items():
        mine = [answer for answer in answers if answer.model_version == name]
        assert len(mine) > 1_000
        expected = model.predict([model.decode(asked[answer.request_id]) for answer in mine])
        assert [events.parse(answer.prediction)["price"] for answer in mine] == [one.price for one in expected]
    assert (worker.pid, other.pid) == runs
    assert not worker.metric("inflight_worker_model_info", model_version="v1")
    figures(requests=report.accepted, served_after=f"{took:.2f} s")


def test_a_version_that_can_not_be_opened_is_refused(deployment: Deployment, own: Settings, diamonds: MLEModel) -> None:
    """The old one goes on and the worker says so; once the files are whole again, they are served."""
    worker = deployment.worker(worker_model_poll_interval=LONG)
    deployment.serving(1)
    registry = Registry(own.registry_dir)
    version = next_version(own, diamonds)
    file = own.registry_dir / "diamonds" / version / MODEL_FILE
    content = file.read_bytes()
    registry.promote("diamonds", version)
    # The registry itself promotes nothing that is damaged: so the damage comes between promotion and announcement.
    file.chmod(0o644)
    file.write_bytes(content[:-100] + b"x" * 100)
    announce_promotion(deployment.settings, "diamonds", version, reason="a test")
    until(lambda: worker.metric("inflight_worker_models_refused_total") == 1, 300, "the version is refused")
    deployment.load(200).report()
    deployment.settles()
    assert {answer.model_version for answer in results(deployment.settings)} == {"v1"}
    assert "can't be opened; v1 stays in service" in worker.log_path.read_text()
    file.write_bytes(content)
    announce_promotion(deployment.settings, "diamonds", version, reason="a test")
    until(lambda: worker.metric("inflight_worker_model_info", model_version=version) == 1, 300, "the version is served")
    assert worker.metric("inflight_worker_models_refused_total") == 1


@pytest.mark.usefixtures("search")
def test_a_retraining_is_served_by_running_workers(
    deployment: Deployment, own: Settings, diamonds: MLEModel, tmp_path: Path
) -> None:
    """Prices rise by 40 %: `inflight retrain` sees it in the deployment's log, and the worker answers with new ones.

    Not before a person says so: for the champion's rows the new prices are wrong, as made-up labels would be.
    """
    began = datetime.now(UTC)
    worker = deployment.worker(worker_model_poll_interval=LONG)
    deployment.indexer()
    deployment.serving(1)
    # The day's index of the search node is shared with other tests.
    prefix = deployment.settings.topic_prefix
    first = deployment.load(3_000, prefix=f"{prefix}before").report()
    deployment.settles(index=True)
    prices = {msgspec.json.encode(one.features): 1.4 * one.label for one in diamonds.examples(own.data_dir)}
    asked = [events.decode_request(message.value()) for message in read_to_end(deployment.settings, REQUESTS)]
    labels = tmp_path / "labels.csv"
    lines = [f"{one.request_id},{prices[msgspec.json.encode(events.parse(one.features))]}" for one in asked]
    labels.write_text("\n".join(["request_id,label", *lines]) + "\n")
    load = deployment.load(UNTIL_STOPPED, rate=150, prefix=f"{prefix}during")
    load.reaches(300)
    since = began.isoformat().replace("+00:00", "Z")
    options = ["--log", "elasticsearch", "--labels", labels, "--since", since, "--promote", "--json"]

    def inflight(*words: str | Path) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "inflight.cli", *words],
            env=os.environ | deployment.environment,
            capture_output=True,
            text=True,
            timeout=800,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    decision = json.loads(inflight("retrain", "diamonds", *options))
    assert decision["outcome"] == "rejected", decision["reason"]
    assert decision["gate"]["significant"]
    assert decision["held_out_gate"]["significant"]
    version = decision["challenger"]
    assert worker.metric("inflight_worker_model_info", model_version=version) in (None, 0)
    inflight("models", "promote", "diamonds")
    until(lambda: worker.metric("inflight_worker_model_info", model_version=version) == 1, 300, "the worker serves it")
    reached = load.accepted
    load.reaches(reached + 300)
    load.stop()
    second = load.report()
    # The same stones as before, once more.
    third = deployment.load(300, prefix=f"{prefix}after").report()
    deployment.settles()
    answers = results(deployment.settings)
    accepted = first.accepted + second.accepted + third.accepted
    assert len(answers) == len({answer.request_id for answer in answers}) == accepted
    requests = {
        one.request_id: bytes(one.features)
        for one in (events.decode_request(message.value()) for message in read_to_end(deployment.settings, REQUESTS))
    }
    by_version: dict[str, dict[bytes, float]] = {"v1": {}, version: {}}
    for answer in answers:
        stone = requests[answer.request_id]
        by_version[answer.model_version][stone] = events.parse(answer.prediction)["price"]
    both = by_version["v1"].keys() & by_version[version].keys()
    assert len(both) > 100
    risen = sorted(by_version[version][stone] / by_version["v1"][stone] for stone in both)
    assert 1.3 < risen[len(risen) // 2] < 1.5
    figures(accepted=accepted, decision=decision["reason"])


def test_the_announcement_is_an_event(settings: Settings) -> None:
    """On a compacted topic, under type and model."""
    said = announce_promotion(settings, "diamonds", "v2", reason="better", previous="v1")
    (message,) = read_to_end(settings, MODEL_EVENTS)
    assert message.key() == b"model.promoted.v1/diamonds"
    assert events.decode_model_event(message.value()) == said


def test_nobody_to_tell_is_an_error_that_says_so() -> None:
    """The promotion stands; the caller decides what to make of it."""
    nowhere = Settings(_env_file=None, kafka_bootstrap_servers="127.0.0.1:1")
    with pytest.raises(PromotionNotAnnounced, match="diamonds v2 was not announced"):
        announce_promotion(nowhere, "diamonds", "v2", reason="better", timeout=1.0)

"""Similar diamonds from a running gateway: the real training set, and promotions while callers ask."""

import json
import random
import shutil
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from inflight.settings import Settings
from inflight.stack.process import free_port
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.sdk import MLEModel
from machine_learning_engineering.training.quick import train
from tests.support.deployment import Deployment
from tests.support.http_clients import call
from tests.support.waiting import figures, until

GRADES = ("cut", "color", "clarity")
MAX_SECONDS = 60


@pytest.fixture
def own(tmp_path: Path, models: Settings) -> Settings:
    """A home of its own with a copy of the trained registry: champions change here."""
    home = models.model_copy(update={"home": tmp_path / "home"})
    shutil.copytree(models.registry_dir, home.registry_dir)
    return home


@pytest.fixture
def deployment(settings: Settings, own: Settings, diamonds: MLEModel) -> Iterator[Deployment]:
    with Deployment(settings, own, diamonds) as found:
        yield found


def training_set(own: Settings, version: str) -> list[dict[str, Any]]:
    """The rows of a version, read as anybody can read the file."""
    lines = (own.registry_dir / "diamonds" / version / "similar.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines[1:]]


def nearest(rows: list[dict[str, Any]], stone: dict[str, Any], n: int) -> list[tuple[dict[str, Any], Any, float]]:
    """By looking at all rows; of equal ones the first in the file."""
    same = [row for row in rows if all(row["features"][name] == stone[name] for name in GRADES)]

    def order(row: dict[str, Any]) -> tuple[Decimal, float]:
        carat = row["features"]["carat"]
        return abs(Decimal(str(carat)) - Decimal(str(stone["carat"]))), carat

    same.sort(key=order)
    return [(row["features"], row["label"], float(order(row)[0])) for row in same[:n]]


class Callers(threading.Thread):
    """Asks for stones like these, one after the other; keeps each question with its answer."""

    def __init__(self, port: int, stones: list[dict[str, Any]]) -> None:
        super().__init__(daemon=True)
        self.answers: list[tuple[dict[str, Any], Any]] = []
        self.stopping = threading.Event()
        self._port = port
        self._stones = stones

    def run(self) -> None:
        while not self.stopping.is_set():
            stone = self._stones[len(self.answers) % len(self._stones)]
            self.answers.append((stone, ask(self._port, stone, 10)))


def ask(port: int, stone: dict[str, Any], n: int) -> Any:
    query = urlencode({name: stone[name] for name in (*GRADES, "carat")} | {"n": n})
    return call(port, "GET", f"/v1/diamonds/similar?{query}")


def test_promotions_under_load(deployment: Deployment, own: Settings, diamonds: MLEModel) -> None:
    """Forth and back. Each answer has the rows of the version that it names, and none is an error."""
    port = free_port()
    gateway = deployment.gateway(port, gateway_registry_poll_interval=0.2)
    until(gateway.serves, 120, "the gateway is ready")
    registry = Registry(own.registry_dir)
    first = registry.resolve("diamonds")
    others = list(type(diamonds).examples(own.data_dir))[::3]
    second = train(type(diamonds), own, examples=others, promote=False).version
    stones = random.Random(1).sample(list(deployment.diamonds(50_000)), 200)
    callers = [Callers(port, stones[part::2]) for part in range(2)]
    for one in callers:
        one.start()

    def served(version: str) -> bool:
        return all(one.answers and one.answers[-1][1].body["model_version"] == version for one in callers)

    try:
        until(lambda: served(first), MAX_SECONDS, "the first version is asked")
        registry.promote("diamonds", second)
        until(lambda: served(second), MAX_SECONDS, "the new champion's rows are there")
        registry.rollback("diamonds")
        until(lambda: served(first), MAX_SECONDS, "those of the one before are back")
    finally:
        for one in callers:
            one.stopping.set()
            one.join(60)
    answers = [pair for one in callers for pair in one.answers]
    assert {answer.status for _, answer in answers} == {200}
    sets = {version: training_set(own, version) for version in (first, second)}
    assert len(sets[second]) < len(sets[first]) / 2
    asked = random.Random(2).sample(answers, 60) + [one.answers[-1] for one in callers]
    for stone, answer in asked:
        body = answer.body
        found = [(row["features"], row["label"], row["distance"]) for row in body["rows"]]
        assert found == nearest(sets[body["model_version"]], stone, 10), (stone, body)
    assert {answer.body["model_version"] for _, answer in answers} == {first, second}
    document = call(port, "GET", "/openapi.json").body
    assert document["paths"]["/v1/diamonds/similar"]["get"]["x-model-version"] == first
    figures(answers=len(answers), first=len(sets[first]), second=len(sets[second]))


def test_a_damaged_index_leaves_predictions_alone(deployment: Deployment, own: Settings) -> None:
    """Cut off as a full disk does it, before the gateway starts."""
    port = free_port()
    version = Registry(own.registry_dir).resolve("diamonds")
    path = own.registry_dir / "diamonds" / version / "similar.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    deployment.worker()
    gateway = deployment.gateway(port, gateway_registry_poll_interval=0.2)
    deployment.serving(1)
    until(gateway.serves, 120, "the gateway is ready")
    stone = next(iter(deployment.diamonds(1)))
    assert ask(port, stone, 1).status == 503
    assert call(port, "POST", "/v1/diamonds/value", stone).status == 200
    path.write_bytes(whole)
    until(lambda: ask(port, stone, 1).status == 200, MAX_SECONDS, "the restored index is read, without a restart")

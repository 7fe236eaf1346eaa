"""Workers on existing topics of a real broker: records of others are answered as requests are, whatever ends when."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from inflight.settings import Settings
from machine_learning_engineering.dead_letters.letter import read_origin
from machine_learning_engineering.declaration.reading import parse_declaration
from machine_learning_engineering.events.topics import DEAD_LETTERS
from machine_learning_engineering.kafka.client import client_options, producer_options, read_to_end
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.sdk import MLEModel
from model.catalog import available
from tests.conftest import Broker
from tests.support.deployment import Deployment
from tests.support.doses import FULL
from tests.support.waiting import figures, until

PARTITIONS = 4
KILLS = 10 if FULL else 3
FEATURES = ("carat", "cut", "color", "clarity", "depth", "table", "x", "y", "z")
TEXTS = ("cut", "color", "clarity")


class Foreign:
    """An existing topic of others, with events of diamonds, and a topic of results."""

    def __init__(self, settings: Settings, name: str = "orders") -> None:
        # Other deployments use the same broker: names are the test's own.
        self.settings = settings.model_copy(update={"topic_prefix": ""})
        self.topic, self.scores = f"{settings.topic_prefix}{name}", f"{settings.topic_prefix}{name}-scores"
        self._admin = AdminClient(client_options(settings))
        self.sent = itertools.count()

    def create(self, name: str = "", partitions: int = PARTITIONS, **config: str) -> None:
        topic = NewTopic(
            name or self.topic, partitions, 1, config={key.replace("_", "."): v for key, v in config.items()}
        )
        self._admin.create_topics([topic])[topic.topic].result(30)

    def delete(self) -> None:
        self._admin.delete_topics([self.topic])[self.topic].result(30)

    def grow(self, partitions: int, name: str = "") -> None:
        name = name or self.topic
        self._admin.create_partitions([NewPartitions(name, partitions)])[name].result(30)

    def send(self, events: Iterator[dict[str, Any]] | list[dict[str, Any]], **options: Any) -> list[int]:
        """Publish events, keyed by customer; returns their numbers once all are acknowledged."""
        producer = Producer({**producer_options(self.settings), "linger.ms": 5, **options})
        numbers = []
        for stone in events:
            number = next(self.sent)
            value = {"order": {"id": number, "ts": time.time(), "note": "é"}, "stone": stone}
            while True:
                try:
                    producer.produce(
                        self.topic, json.dumps(value), f"customer-{number % 50}", headers=[("n", b"%d" % number)]
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
            numbers.append(number)
        assert producer.flush(120) == 0
        return numbers

    def records(self, topic: str = "") -> list[Message]:
        return list(read_to_end(self.settings, topic or self.topic))

    def declaration(self, source: str = "", result: str = "", model: str = "diamonds") -> bytes:
        fields = "\n".join(
            f'{name} = {{ from = "stone.{name}", type = "{"text" if name in TEXTS else "float"}" }}'
            for name in FEATURES
        )
        if model != "diamonds":
            fields = ""
        text = f"""
[model]
name = "{model}"
answer = {{ price = "predict" }}
[source]
topic = "{self.topic}"
start = "earliest"
request_id = "order.id"
{source}
[features]
{fields}
[result]
{result or f'topic = "{self.scores}"'}
"""
        parse_declaration(text.encode())
        return text.encode()


@pytest.fixture
def own_models(models: Settings, tmp_path: Path) -> Settings:
    return models.model_copy(update={"home": tmp_path / "bound"})


Bind = Callable[[bytes], None]


@pytest.fixture
def bind(deployment: Deployment, models: Settings, diamonds: MLEModel, tmp_path: Path) -> Bind:
    """`bind(declaration)`: a version of diamonds with it becomes the champion of the deployment's own registry."""
    home = tmp_path / "bound"
    registry = Registry(models.model_copy(update={"home": home}).registry_dir)
    deployment.environment["INFLIGHT_HOME"] = str(home.absolute())

    def promote(declaration: bytes | None) -> None:
        model = available()["diamonds"]()
        model.estimator = diamonds.estimator
        found = registry.save(
            model, metrics={"r2": 0.9, "rmse": 1.0}, training_data_sha256="0" * 64, seed=1, declaration=declaration
        )
        registry.promote("diamonds", found)

    return promote


def identity(record: Message) -> int:
    return int(dict(record.headers() or ())["n"])


def check(
    deployment: Deployment, foreign: Foreign, numbers: list[int], topic: str = "", *, repeats: bool = True
) -> int:
    """Each record has one outcome, equal in every repeat, with the key, partition and order of its source; repeats."""
    source = {identity(record): record for record in foreign.records()}
    assert set(numbers) == set(source)
    seen: dict[int, Any] = {}
    order: defaultdict[tuple[int, bytes], list[int]] = defaultdict(list)
    more = 0
    for record in foreign.records(topic or foreign.scores):
        number, value = identity(record), json.loads(record.value() or b"")
        sent = source[number]
        assert value["type"] == "prediction.completed.v1", value
        assert value["request_id"] == str(number)
        assert (record.key(), record.partition()) == (sent.key(), sent.partition())
        place = {"topic": foreign.topic, "partition": sent.partition(), "offset": sent.offset()}
        assert value["source"] == place
        content = value["prediction"], value["model_version"]
        if number in seen:
            more += 1
            assert seen[number] == content
        else:
            seen[number] = content
            order[record.partition(), record.key()].append(sent.offset())
    assert seen.keys() == source.keys(), f"{len(source) - len(seen)} records without an outcome"
    assert all(offsets == sorted(offsets) for offsets in order.values()), "the order of a key is lost"
    assert repeats or not more
    return more


def waits(deployment: Deployment, foreign: Foreign, topic: str = "", seconds: float = 300) -> None:
    """Until every record of the source has an outcome."""

    def answered() -> bool:
        found = {identity(record) for record in foreign.records(topic or foreign.scores)}
        return found >= {identity(record) for record in foreign.records()}

    until(answered, seconds, "every record has an outcome")


def command(deployment: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the product over the deployment's topics and registry."""
    environment = {**os.environ, **deployment.environment}
    whole = [sys.executable, "-m", "inflight.cli", *arguments]
    return subprocess.run(whole, env=environment, capture_output=True, text=True, timeout=300, check=False)


def audited(deployment: Deployment) -> dict[str, Any]:
    """What `inflight audit` counts; the promise is kept."""
    done = command(deployment, "audit", "--no-index", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_kills_and_restarts_lose_nothing(deployment: Deployment, bind: Bind, broker: Broker, chance: Random) -> None:
    """kill -9 of workers in the middle of their work, and a broker that is killed: one outcome each, in order."""
    foreign = Foreign(deployment.settings)
    foreign.create()
    bind(foreign.declaration())
    workers = [deployment.worker(kafka_delivery_timeout=120) for _ in range(2)]
    deployment.owns(2 * PARTITIONS, workers=2)
    batches = KILLS + 2
    stones = deployment.diamonds(500 * batches)
    numbers: list[int] = []
    for turn in range(batches):
        numbers += foreign.send(itertools.islice(stones, 500), **{"delivery.timeout.ms": 120_000})
        if turn == 1:
            broker.restart(hard=True)
        elif turn > 1:
            # As soon as it has begun with what was just sent.
            until(lambda: any(one.serves() for one in workers), 300, "a worker owns partitions")
            deployment.kill(chance.choice([one for one in workers if one.serves()]))
    waits(deployment, foreign)
    repeats = check(deployment, foreign, numbers)
    codes = Counter(code for worker in workers for code in worker.exit_codes)
    assert codes[-signal.SIGKILL] == KILLS
    # 2: it began while the broker was away.
    assert codes.total() - codes[70] - codes[2] == KILLS, codes
    found = audited(deployment)
    assert (found["accepted"], found["completed"], found["lost"]) == (len(numbers), len(numbers), 0)
    assert (found["duplicates"], found["orphans"], found["repeats"]) == (0, 0, repeats)
    figures(records=len(numbers), kills=KILLS, repeats=repeats, exits=dict(codes))


def test_a_promotion_moves_the_worker_to_another_topic_and_replays_are_answered(
    deployment: Deployment, bind: Bind
) -> None:
    """By the product's commands: audit, trace and dead letters follow, and nothing is written to a source."""
    first, second = Foreign(deployment.settings, "first"), Foreign(deployment.settings, "second")
    for foreign in (first, second):
        foreign.create()
    bind(first.declaration())
    worker = deployment.worker(worker_model_poll_interval=0.5)
    deployment.owns(2 * PARTITIONS)
    numbers = first.send(deployment.diamonds(50))
    waits(deployment, first)
    assert check(deployment, first, numbers, repeats=False) == 0
    pid = worker.pid
    bind(second.declaration())
    second.sent = itertools.count(2_000)
    again = second.send(deployment.diamonds(50))
    waits(deployment, second)
    assert check(deployment, second, again, repeats=False) == 0
    # The process has begun again in its place.
    assert (worker.pid, worker.exit_codes) == (pid, [])

    producer = Producer(producer_options(deployment.settings))
    broken = b'{"order": {"id": "late"}, "stone": NaN}'
    producer.produce(second.topic, broken, b"customer-1", headers=[("n", b"1000")])
    assert producer.flush(60) == 0
    until(lambda: list(read_to_end(deployment.settings, DEAD_LETTERS)), 60, "a dead letter")
    origin = read_origin(next(read_to_end(deployment.settings, DEAD_LETTERS)).headers())
    assert (origin.topic, origin.reason) == (second.topic, "not_json")
    before = len(second.records())
    done = command(deployment, "dlq", "replay", "--all")
    assert done.returncode == 0, done.stdout + done.stderr
    # Still broken: it is a dead letter once more, with the place of its source in a header.
    until(lambda: len(list(read_to_end(deployment.settings, DEAD_LETTERS))) == 2, 60, "it was read again")
    assert len(second.records()) == before
    traced = command(deployment, "trace", str(again[7]), "--json")
    assert traced.returncode == 0, traced.stdout + traced.stderr
    path = json.loads(traced.stdout)
    assert [step["stage"] for step in path["steps"]] == ["request", "result", "log"]
    assert path["steps"][0]["position"][0] == path["steps"][2]["origin"][0] == second.topic
    found = audited(deployment)
    assert (found["accepted"], found["completed"], found["dead_letters"]) == (52, 50, 2)

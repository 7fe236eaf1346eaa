"""Workers on existing topics of a real broker: records of others are answered as requests are, whatever ends when."""

import itertools
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from inflight.settings import Settings
from machine_learning_engineering.declaration.reading import parse_declaration
from machine_learning_engineering.kafka.client import client_options, producer_options, read_to_end
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.sdk import MLEModel
from model.catalog import available
from tests.support.deployment import Deployment
from tests.support.waiting import until

PARTITIONS = 4
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


def test_records_of_others_are_answered_where_the_declaration_says(deployment: Deployment, bind: Bind) -> None:
    foreign = Foreign(deployment.settings)
    foreign.create()
    bind(foreign.declaration())
    numbers = foreign.send(deployment.diamonds(300))
    deployment.worker()
    deployment.owns(2 * PARTITIONS)
    numbers += foreign.send(deployment.diamonds(200))
    waits(deployment, foreign)
    assert check(deployment, foreign, numbers, repeats=False) == 0

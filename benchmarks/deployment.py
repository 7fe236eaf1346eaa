"""A broker of our own with a trained model and a backlog of requests, in a temporary folder that is removed."""

import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.machine import Cores, pin, share_cores
from inflight.settings import Settings
from inflight.stack.embedded import EmbeddedNode
from inflight.stack.kafka import KAFKA_VERSION, KafkaNode
from inflight.stack.maven import missing_tools
from inflight.stack.process import StackError
from machine_learning_engineering.datasets import DatasetUnavailable
from machine_learning_engineering.events.topics import MAX_MESSAGE_BYTES, REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import client_options, create_topics, producer_options, topic_name
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.training.quick import train
from model.diamonds.model import Diamonds

# Numeric libraries would start a thread for each core of the machine, on the one core that a case has.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
FORGET_SECONDS = 60.0


class EvaluationError(RuntimeError):
    """The run is not possible here; the message names the fix."""


@dataclass(frozen=True)
class Deployment:
    """A running broker, the settings of everything on it, the model, and which cores are whose."""

    settings: Settings
    broker: str
    model: Diamonds
    cores: Cores

    def with_prefix(self, prefix: str) -> "Deployment":
        """The same with topics of its own, which exist."""
        settings = self.settings.model_copy(update={"topic_prefix": prefix})
        _create_topics(settings)
        return Deployment(settings, self.broker, self.model, self.cores)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find all this."""
        settings = self.settings
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("INFLIGHT_")},
            **ONE_THREAD,
            "INFLIGHT_HOME": str(settings.home),
            "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "INFLIGHT_TOPIC_PREFIX": settings.topic_prefix,
            "INFLIGHT_WORKER_METRICS_PORT": "0",
        }


@contextlib.contextmanager
def deploy(stack: Literal["real", "embedded"]) -> Iterator[Deployment]:
    """A broker and a trained model; all of it is gone at the end.

    Raises:
        EvaluationError: Java or Maven is missing, the broker does not start, or the dataset can't be had.
    """
    if stack == "real" and (missing := missing_tools()):
        raise EvaluationError(
            f"a benchmark needs real Apache Kafka, and {' and '.join(missing)} is not on PATH: install Java 17 and "
            "Maven, or measure the embedded broker with --stack embedded (figures of another broker)"
        )
    cores = share_cores()
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    with tempfile.TemporaryDirectory(prefix="inflight-bench-", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        node = KafkaNode(home / "kafka") if stack == "real" else EmbeddedNode(home / "kafka", services=("kafka",))
        try:
            # The broker inherits it.
            pin(cores.rest)
            node.start()
            settings = Settings(
                _env_file=None, home=home, kafka_bootstrap_servers=node.bootstrap_servers, topic_prefix="backlog-"
            )
            train(Diamonds, settings)
            model = Registry(settings.registry_dir).open("diamonds", model_class=Diamonds)
            _create_topics(settings)
            broker = f"Apache Kafka {KAFKA_VERSION}" if stack == "real" else "embedded noida-db, not Apache Kafka"
            yield Deployment(settings, broker, model, cores)
        except (StackError, DatasetUnavailable) as error:
            raise EvaluationError(str(error)) from error
        finally:
            node.stop()
            pin(before)


def _create_topics(settings: Settings) -> None:
    """The product's topics, with the broker's clock on the results: rates are measured by it, whoever produced them."""
    config = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(MAX_MESSAGE_BYTES)}
    results = NewTopic(topic_name(settings, RESULTS), settings.topic_partitions, 1, config=config)
    admin = AdminClient(client_options(settings))
    for future in admin.create_topics([results]).values():
        future.result()
    create_topics(settings)


def request_bodies(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of `count` requests, as any producer writes them: the diamonds, over and over."""
    rows = [msgspec.json.encode(features) for features in Diamonds.example_requests()]
    for number, features in zip(range(count), itertools.cycle(rows), strict=False):
        request_id = f"diamond-{number:012d}"
        yield (
            request_id.encode(),
            b'{"request_id":"%b","model":"diamonds","features":%b,"requested_at":"2026-01-01T00:00:00Z"}'
            % (request_id.encode(), features),
        )


def fill(deployment: Deployment, count: int) -> dict[bytes, float]:
    """Publish `count` requests; returns the price that the model gives for each, by key.

    Raises:
        EvaluationError: a request could not be published.
    """
    topic = topic_name(deployment.settings, REQUESTS)
    failed: list[object] = []

    def delivered(error: object, _: Message) -> None:
        if error is not None:
            failed.append(error)

    producer = Producer({**producer_options(deployment.settings), "linger.ms": 20, "on_delivery": delivered})
    model, keys, features = deployment.model, [], []
    for key, value in request_bodies(count):
        keys.append(key)
        features.append(model.decode(msgspec.json.decode(value, type=dict[str, msgspec.Raw])["features"]))
        while True:
            try:
                producer.produce(topic, value, key)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    missing = producer.flush(60)
    if failed or missing:
        raise EvaluationError(f"{len(failed) + missing} of {count} requests were not published: {failed[:1]}")
    return dict(zip(keys, (prediction.price for prediction in model.predict(features)), strict=True))


def forget_group(settings: Settings, group: str) -> None:
    """Delete a consumer group with its offsets, so that the next one of its name starts at the beginning.

    Raises:
        KafkaException: the group still has members after a minute.
    """
    admin = AdminClient(client_options(settings))
    deadline = time.monotonic() + FORGET_SECONDS
    while True:
        try:
            admin.delete_consumer_groups([group])[group].result()
            return
        except KafkaException as error:
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                return
            # A member that was killed belongs to the group until its session has timed out.
            if error.args[0].code() != KafkaError.NON_EMPTY_GROUP or time.monotonic() > deadline:
                raise
        time.sleep(0.2)

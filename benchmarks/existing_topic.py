"""`python -m benchmarks.existing_topic`: workers on an existing topic against the same requests in their own format.

One real broker, one model, the same diamonds as requests and as nested events with fields that nobody reads. In turn, a
worker answers a backlog of each; the rate is that of the results by the broker's clock, from the second tenth on.
"""

import itertools
import json
import subprocess
import sys
import time
from statistics import median

import msgspec
import typer
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.deployment import Deployment, EvaluationError, deploy, fill
from inflight.settings import Settings
from machine_learning_engineering.events.topics import MAX_MESSAGE_BYTES, RESULTS
from machine_learning_engineering.kafka.client import client_options, end_offsets, producer_options, read_to_end
from machine_learning_engineering.registry.registry import Registry
from model.diamonds.model import Diamonds

LIMIT_SECONDS = 300.0
_TEXTS = ("cut", "color", "clarity")


class Comparison(msgspec.Struct, frozen=True):
    """Requests a second in each round, and the median of the ratios of a round."""

    broker: str
    requests: int
    own_format: list[float]
    existing_topic: list[float]
    ratio: float


def _declaration(topic: str) -> bytes:
    names = Diamonds.Features.__struct_encode_fields__
    rows = (f'{name} = {{ from = "stone.{name}", type = "{"text" if name in _TEXTS else "float"}" }}' for name in names)
    features = "\n".join(rows)
    return f"""
[model]
name = "diamonds"
answer = {{ price = "predict" }}
[source]
topic = "{topic}"
request_id = "order.id"
requested_at = "order.at"
start = "earliest"
[features]
{features}
[result]
topic = "{topic}-scores"
include = ["order.customer"]
""".encode()


def _fill_source(deployment: Deployment, topic: str, count: int) -> None:
    config = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(MAX_MESSAGE_BYTES)}
    admin = AdminClient(client_options(deployment.settings))
    partitions = deployment.settings.topic_partitions
    for future in admin.create_topics(
        [NewTopic(name, partitions, 1, config=config) for name in (topic, f"{topic}-scores")]
    ).values():
        future.result()
    producer = Producer({**producer_options(deployment.settings), "linger.ms": 20})
    rows = itertools.cycle(list(Diamonds.example_requests()))
    order = {"at": "2026-01-01T00:00:00Z", "lines": [{"sku": "A", "n": 1}, {"sku": "B", "n": 2}], "note": "x" * 40}
    for number, stone in zip(range(count), rows, strict=False):
        event = {"order": {"id": f"order-{number:012d}", "customer": number % 1_000, **order}, "stone": stone}
        while True:
            try:
                producer.produce(topic, json.dumps(event), str(number % 1_000))
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(60):
        raise EvaluationError("the events could not be published")


def _rate(environment: dict[str, str], settings: Settings, topic: str, count: int) -> float:
    """Results a second of a worker that starts now.

    Args:
        environment: that of the worker.
        settings: those of the topic of results.
        topic: its name without the prefix of the settings.
    """
    command = [sys.executable, "-m", "inflight.cli", "worker"]
    worker = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + LIMIT_SECONDS
        while sum(high for _, high in end_offsets(settings, topic).values()) < count:
            if time.monotonic() > deadline or worker.poll() is not None:
                raise EvaluationError(f"the worker has not answered {count} requests in {LIMIT_SECONDS:g} s")
            time.sleep(0.2)
    finally:
        worker.terminate()
        worker.wait(60)
    times: list[int] = sorted(record.timestamp()[1] for record in read_to_end(settings, topic))
    return 0.9 * count / max(1e-3, (times[-1] - times[count // 10]) / 1000)


def compare(deployment: Deployment, count: int, rounds: int) -> Comparison:
    """Measure both, in turn."""
    own, existing = [], []
    for number in range(rounds):
        native = deployment.with_prefix(f"own-{number}-")
        fill(native, count)
        own.append(_rate(native.environment, native.settings, RESULTS, count))
        topic = f"orders-{number}"
        bound = deployment.with_prefix(f"bound-{number}-")
        _fill_source(bound, topic, count)
        home = bound.settings.home / f"bound-{number}"
        registry = Registry(bound.settings.model_copy(update={"home": home}).registry_dir)
        model = Diamonds()
        model.estimator = deployment.model.estimator
        version = registry.save(
            model, metrics={"r2": 0.9}, training_data_sha256="0" * 64, seed=1, declaration=_declaration(topic)
        )
        registry.promote("diamonds", version)
        environment = bound.environment | {"INFLIGHT_HOME": str(home)}
        whole = bound.settings.model_copy(update={"topic_prefix": ""})
        existing.append(_rate(environment, whole, f"{topic}-scores", count))
    ratios = [one / other for one, other in zip(existing, own, strict=True)]
    return Comparison(deployment.broker, count, own, existing, median(ratios))


def main(
    requests: int = typer.Option(100_000, help="Requests of a backlog."),
    rounds: int = typer.Option(3, help="Backlogs of each kind."),
) -> None:
    """Print one JSON object."""
    with deploy("real") as deployment:
        print(msgspec.json.encode(compare(deployment, requests, rounds)).decode())


if __name__ == "__main__":
    typer.run(main)

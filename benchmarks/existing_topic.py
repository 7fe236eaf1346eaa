"""`python -m benchmarks.existing_topic`: workers on an existing topic against the same requests in their own format.

One real broker, one model, the same diamonds as requests and as nested events with fields that nobody reads. In turn, a
worker answers a backlog of each; the rate is that of the results by the broker's clock, from the second tenth on.
"""

import itertools
import json
import sys
from statistics import median

import msgspec
import typer
from confluent_kafka import Producer

from benchmarks.backlog import create, rate
from benchmarks.deployment import Deployment, EvaluationError, deploy, fill
from machine_learning_engineering.events.topics import RESULTS
from machine_learning_engineering.kafka.client import producer_options
from machine_learning_engineering.registry.registry import Registry
from model.diamonds.model import Diamonds

_WORKER = (sys.executable, "-m", "inflight.cli", "worker")
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
    create(deployment.settings, topic, f"{topic}-scores")
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


def compare(deployment: Deployment, count: int, rounds: int) -> Comparison:
    """Measure both, in turn."""
    own, existing = [], []
    for number in range(rounds):
        native = deployment.with_prefix(f"own-{number}-")
        fill(native, count)
        own.append(rate(native.settings, _WORKER, native.environment, RESULTS, count))
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
        existing.append(rate(whole, _WORKER, environment, f"{topic}-scores", count))
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

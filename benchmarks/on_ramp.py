"""`python -m benchmarks.on_ramp`: an adopted pipeline on an existing topic against a loop of one's own.

One real broker, one pipeline of twelve mixed columns, the same nested events. In turn, the loop (results alone) and a
worker (results, and the log of every request and answer) work off the backlog; the rate is that of the results by the
broker's clock, from the second tenth on. Every answer is compared with the pipeline's in one batch.
"""

import json
import os
import subprocess
import sys
from statistics import median
from typing import Any

import joblib
import msgspec
import typer
from confluent_kafka import Producer

from benchmarks.backlog import create, rate
from benchmarks.deployment import ONE_THREAD, EvaluationError, deploy
from inflight.settings import Settings
from machine_learning_engineering.kafka.client import producer_options, read_to_end
from tests.support.company import Company, make


class Comparison(msgspec.Struct, frozen=True):
    """Events a second in each round, and the median of the ratios of a round."""

    broker: str
    events: int
    own_loop: list[float]
    inflight: list[float]
    ratio: float
    differing: dict[str, int]
    """Answers that are not those of the pipeline in one batch."""


def publish(settings: Settings, company: Company, count: int) -> None:
    """Publish the events, each with its customer as the key."""
    producer = Producer({**producer_options(settings), "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    for key, value in company.events(slice(0, count)):
        producer.produce("orders", json.dumps(value), key)
    if producer.flush(120):
        raise EvaluationError("the events could not be published")


def differing(settings: Settings, topic: str, expected: dict[str, float]) -> int:
    """Answers that are not the pipeline's."""
    found = 0
    for record in read_to_end(settings, topic):
        value: dict[str, Any] = json.loads(record.value())
        answer = value.get("prediction", value)
        found += answer.get("probability") != expected[value.get("request_id") or value["id"]]
    return found


def adopt(company: Company, environment: dict[str, str], scores: str) -> None:
    """As a user does who wants results of the whole backlog on a topic of their own."""
    folder = company.sample.parent
    inflight = [sys.executable, "-P", "-m", "inflight.cli"]
    look = ["adopt", "fraud.joblib", "--sample", company.sample.name, "--label", "fraud", "--topic", "orders"]
    subprocess.run([*inflight, *look, "-o", "fraud.toml"], cwd=folder, env=environment, check=True, capture_output=True)
    declared = (folder / "fraud.toml").read_text()
    declared = declared.replace('topic = "orders"\n', 'topic = "orders"\nstart = "earliest"\n')
    (folder / "fraud.toml").write_text(declared.replace("[result]\n", f'[result]\ntopic = "{scores}"\n'))
    saving = [*inflight, "adopt", "fraud.toml", "--write"]
    subprocess.run(saving, cwd=folder, env=environment, check=True, capture_output=True)


def main(
    events: int = typer.Option(20_000, help="Events of the backlog."),
    rounds: int = typer.Option(3, help="Backlogs of each kind."),
) -> None:
    """Print one JSON object."""
    with deploy("real") as deployment:
        settings = deployment.settings.model_copy(update={"topic_prefix": ""})
        folder = settings.home / "company"
        folder.mkdir()
        company = make(folder, rows=events)
        joblib.dump(company.pipeline, folder / "fraud.joblib")
        found = company.expected(slice(0, events))
        expected = {f"o-{number:06}": one for number, one in enumerate(found)}
        create(settings, "orders")
        publish(settings, company, events)
        clean = {name: value for name, value in os.environ.items() if not name.startswith("INFLIGHT_")} | ONE_THREAD
        rates: dict[str, list[float]] = {"own_loop": [], "inflight": []}
        wrong = dict.fromkeys(rates, 0)
        for number in range(rounds):
            target = f"own-{number}"
            create(settings, target)
            loop = [sys.executable, "-m", "benchmarks.cases.own_loop", settings.kafka_bootstrap_servers, "orders"]
            command = [*loop, target, str(folder / "fraud.joblib")]
            rates["own_loop"].append(rate(settings, command, clean, target, events))
            wrong["own_loop"] += differing(settings, target, expected)
            run = deployment.with_prefix(f"run-{number}-")
            environment = run.environment | {"INFLIGHT_HOME": str(folder / f"home-{number}")}
            scores = f"scores-{number}"
            create(settings, scores)
            adopt(company, environment, scores)
            command = [sys.executable, "-P", "-m", "inflight.cli", "worker"]
            rates["inflight"].append(rate(settings, command, environment, scores, events))
            wrong["inflight"] += differing(settings, scores, expected)
        ratio = median(one / other for one, other in zip(rates["inflight"], rates["own_loop"], strict=True))
        print(
            msgspec.json.encode(Comparison(deployment.broker, events, **rates, ratio=ratio, differing=wrong)).decode()
        )


if __name__ == "__main__":
    typer.run(main)

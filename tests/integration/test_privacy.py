"""What is redacted is nowhere: a canary goes through real processes, and everything that they wrote is searched."""

import json
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer

from inflight.settings import Settings
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.topics import DEAD_LETTERS, LOGS, REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import producer_options, read_to_end, topic_name
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.sdk import MLEModel
from machine_learning_engineering.training.quick import train
from model.catalog import available
from monitoring.elastic import client as elastic
from monitoring.elastic import scan
from tests.support.deployment import Deployment
from tests.support.supervised import Supervised
from tests.support.waiting import until

CANARY = "CANARY7f3a9"
KEY = "a secret of these tests"
TRACE = uuid.uuid4().hex
"""Of this run alone, as are the ids: other tests index documents on the same search node."""
RUN = f"{TRACE[:8]}-"
RULES = {"titanic": {"name": "hash", "ticket": "drop", "cabin": "drop"}, "*": {"*": "drop"}}
PASSENGER = {"pclass": 3, "sex": "male", "sibsp": 1, "parch": 0, "fare": 7.25}
NAME = f"{CANARY}, Mr. Owen"
STRANGER = "titanik"
"""A model that is not there."""


@pytest.fixture(scope="module")
def titanic(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with the champion of the passengers, from one quick training."""
    home = Settings(home=tmp_path_factory.mktemp("titanic"), train_n_models=1, _env_file=None)  # type: ignore[call-arg]
    train(available()["titanic"], home)
    return home


@pytest.fixture
def model(titanic: Settings) -> MLEModel:
    return Registry(titanic.registry_dir).open("titanic", model_class=available()["titanic"])


@pytest.fixture
def deployment(settings: Settings, titanic: Settings, model: MLEModel, search: Any) -> Iterator[Deployment]:
    with Deployment(settings, titanic, model) as found:
        yield found


def request(name: str, **fields: Any) -> tuple[str, bytes]:
    found = {"request_id": RUN + name, "model": "titanic", "features": PASSENGER, **fields}
    return RUN + name, msgspec.json.encode(found)


def requests() -> Iterator[tuple[str, bytes]]:
    """Those that are answered, those that are refused, and those that can't be read; the canary is in each."""
    for number in range(20):
        features = {**PASSENGER, "name": NAME, "ticket": f"{CANARY}-{number}", "cabin": f"C{CANARY}"}
        yield request(f"good-{number}", features=features)
    for number, odd in enumerate(
        [
            {"sex": CANARY},
            {"fare": f"{CANARY} pounds"},
            {"age": CANARY},
            {"embarked": CANARY},
            {f"{CANARY} is no name": 1},
            {"name": {"first": CANARY}},
            {"cabin": CANARY * 50},
        ]
    ):
        yield request(f"refused-{number}", features={**PASSENGER, "name": NAME, **odd})
    yield request("unknown", model=STRANGER, features={"name": NAME})
    yield request("list", features=[CANARY])
    yield f"key of {CANARY}", request("own_key", features={"name": NAME})[1]
    yield request("typo", features={"name": NAME}, **{f"{CANARY} field": 1})
    yield request("time", features={"name": NAME}, requested_at=CANARY)
    yield "cut", request("cut", features={"name": NAME})[1][:-3]
    yield "text", CANARY.encode()


def publish(settings: Settings) -> int:
    producer = Producer(producer_options(settings))
    count = 0
    for key, value in requests():
        headers = [("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01".encode())]
        producer.produce(topic_name(settings, REQUESTS), value, key, headers=headers)
        count += 1
    assert producer.flush(30) == 0
    return count


def lines_of(process: Supervised) -> list[dict[str, Any]]:
    """The service log; each line of it has to be a JSON object."""
    return [json.loads(line) for line in process.log_path.read_text().splitlines()]


def test_a_canary_is_in_no_log_no_document_no_metric_and_no_line(
    deployment: Deployment, settings: Settings, model: MLEModel
) -> None:
    """It is in the requests and in the dead letters' bytes, where it belongs, and the model was given it."""
    rules = {"log_redact": json.dumps(RULES), "log_redact_key": KEY, "log_level": "debug"}
    worker = deployment.worker(**rules)
    indexer, exporter = deployment.indexer(log_level="debug"), deployment.exporter(log_level="debug")
    sent = publish(settings)
    until(lambda: deployment.results() == sent - 4, 300, "each request that can be understood is answered")
    deployment.settles(index=True)

    logs = [events.decode_log(record.value()) for record in read_to_end(settings, LOGS)]
    results = [record.value() for record in read_to_end(settings, RESULTS)]
    letters = list(read_to_end(settings, DEAD_LETTERS))
    assert (len(logs), len(results), len(letters)) == (30, 30, 4)

    written = [msgspec.json.encode(log) for log in logs] + results
    written += [name.encode() + (value or b"") for letter in letters for name, value in letter.headers() or ()]
    client = elastic.connect(settings)
    for index, wanted in (("inference-logs-*", 30), ("inference-dead-letters-*", 4)):
        query = {"size": 1_000, "query": {"term": {"trace.id": TRACE}}}
        until(lambda i=index, q=query, n=wanted: len(scan.hits(client, i, q)) == n, 300, f"{index} has all of them")
        written += [msgspec.json.encode(hit["_source"]) for hit in scan.hits(client, index, query)]
    client.close()
    for process in (worker, indexer, exporter):
        with urllib.request.urlopen(process.metrics_url, timeout=20) as answer:
            metrics = answer.read()
        assert b"inflight_" in metrics
        # An unknown model's name is an identifier, and so in logs; in metrics it would be a series for each name.
        assert STRANGER.encode() not in metrics
        written.append(metrics)
        deployment.stop(process)
        assert {line["service.name"] for line in lines_of(process)} == {f"inflight-{process.name.split('-')[0]}"}
        written.append(process.log_path.read_bytes())
    assert not [text for text in written if CANARY.encode() in text]

    traced = [line for line in lines_of(worker) if line.get("trace.id") == TRACE]
    told = {line["inflight.request_id"].removeprefix(RUN) for line in traced}
    assert told >= {"refused-0", "unknown", "list", "own_key"}
    assert sum(CANARY.encode() in (letter.value() or b"") for letter in letters) == 4
    by_id = {log.request_id.removeprefix(RUN): log for log in logs}
    tokens = {events.parse(by_id[f"good-{number}"].features)["name"] for number in range(20)}
    assert len(tokens) == 1
    assert tokens.pop().startswith("hash-")
    assert by_id["good-0"].redacted == ["name", "ticket", "cabin"]
    assert events.parse(by_id["good-0"].features).keys() == {*PASSENGER, "name"}
    for name in ("refused-0", "unknown", "list"):
        assert (bytes(by_id[name].features), by_id[name].redacted) == (b"{}", ["*"])
    # The champion reads the title in the name: what was redacted in the log was not in the request.
    row = model.decode(msgspec.json.encode({**PASSENGER, "name": NAME, "ticket": "x", "cabin": f"C{CANARY}"}))
    (expected,) = model.predict([row])
    assert bytes(by_id["good-0"].prediction) == events.encode(expected)  # type: ignore[arg-type]


def test_rules_with_a_typing_error_keep_the_worker_from_starting(deployment: Deployment) -> None:
    """And the line says what to mend."""
    worker = deployment.worker(log_redact='{"titanic": {"nmae": "drop"}}')
    deployment.abandon(worker)
    until(lambda: not worker.is_alive(), 300, "the worker ends")
    assert "INFLIGHT_LOG_REDACT redacts `nmae` of the model `titanic`" in worker.log_path.read_text()

"""Clients that are not ours, through the running product: kcat asks with a header of its own, confluent-kafka reads."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from inflight.demo.processes import Process
from inflight.settings import Settings
from inflight.supervisor.specs import READY
from machine_learning_engineering.training.quick import train
from model.catalog import available

DIAMOND = (
    '{"carat":0.23,"cut":"Ideal","color":"E","clarity":"SI2","depth":61.5,"table":55.0,"x":3.95,"y":3.98,"z":2.43}'
)
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def worker(settings: Settings) -> Iterator[Process]:
    """A running worker over the topics of this test, with a diamonds model of a few rows."""
    diamonds = available()["diamonds"]
    train(diamonds, settings, examples=list(islice(diamonds.examples(), 2_000)))
    environment = {
        "INFLIGHT_HOME": str(settings.home),
        "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "INFLIGHT_TOPIC_PREFIX": settings.topic_prefix,
    }
    process = Process("worker", "worker", settings.home / "processes", environment, READY["worker"])
    process.start()
    yield process
    process.stop()


def ask_with_kcat(settings: Settings, request_id: str, body: str) -> None:
    command = [
        "kcat",
        "-P",
        "-b",
        settings.kafka_bootstrap_servers,
        "-t",
        settings.topic_prefix + "prediction-requests",
    ]
    command += ["-k", request_id, "-H", f"traceparent={TRACEPARENT}", "-X", "acks=all"]
    subprocess.run(command, input=body.encode(), check=True, timeout=120)


def ask_with_confluent(settings: Settings, request_id: str, body: str) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers, "acks": "all"})
    headers = [("traceparent", TRACEPARENT.encode())]
    producer.produce(settings.topic_prefix + "prediction-requests", body, request_id, headers=headers)
    assert producer.flush(30) == 0


def read(settings: Settings, topic: str, count: int) -> dict[str, tuple[dict[str, Any], dict[str, bytes]]]:
    """Value and headers by key of the first `count` records of a topic."""
    options = {"bootstrap.servers": settings.kafka_bootstrap_servers, "auto.offset.reset": "earliest"}
    consumer = Consumer(options | {"group.id": f"{settings.topic_prefix}somebody-else"})
    consumer.subscribe([settings.topic_prefix + topic])
    try:
        messages = consumer.consume(count, timeout=300)
    finally:
        consumer.close()
    assert [message.error() for message in messages] == [None] * count
    return {m.key().decode(): (json.loads(m.value()), dict(m.headers() or ())) for m in messages}


@pytest.mark.parametrize("client", ["kcat", "confluent-kafka"])
def test_a_client_that_is_not_ours_asks_and_is_answered(client: str, settings: Settings, worker: Process) -> None:
    """No code of ours on the client's side: the published JSON is the whole contract."""
    if client == "kcat" and shutil.which("kcat") is None:
        pytest.skip("kcat is not installed: apt-get install kcat")
    ask = ask_with_kcat if client == "kcat" else ask_with_confluent

    ask(settings, "good", f'{{"request_id":"good","model":"diamonds","features":{DIAMOND}}}')
    ask(settings, "bad", '{"request_id":"bad","model":"diamonds","features":{"carat":"heavy"}}')
    ask(settings, "unreadable", "one diamond, please")

    results = read(settings, "prediction-results", 2)
    completed, headers = results["good"]
    assert completed["type"] == "prediction.completed.v1"
    assert completed["model_version"] == "v1"
    assert 100 < completed["prediction"]["price"] < 1_000
    assert headers["traceparent"] == TRACEPARENT.encode()
    failed, _ = results["bad"]
    assert failed["type"] == "prediction.failed.v1"
    assert failed["error"]["type"] == "invalid_features"
    assert "carat" in failed["error"]["message"]
    logs = read(settings, "prediction-logs", 2)
    assert {key: log["outcome"] for key, (log, _) in logs.items()} == {"good": "completed", "bad": "failed"}
    assert logs["good"][0]["traceparent"] == TRACEPARENT
    command = [
        "kcat",
        "-C",
        "-b",
        settings.kafka_bootstrap_servers,
        "-t",
        f"{settings.topic_prefix}prediction-dead-letters",
    ]
    if client == "kcat":
        letter = subprocess.run(
            [*command, "-c", "1", "-q", "-f", "%s|%h"], capture_output=True, check=True, timeout=300
        )
        value, _, letter_headers = letter.stdout.decode().partition("|")
        assert value == "one diamond, please"
        assert "dlq_reason=not_json" in letter_headers

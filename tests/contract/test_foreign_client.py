"""The wire contract, proved by clients that are not ours: kcat and a plain confluent-kafka."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from inflight.settings import Settings
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.headers import carried
from machine_learning_engineering.events.schemas import PredictionCompleted
from machine_learning_engineering.events.topics import REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import producer_options, read_to_end, topic_name
from producers.replay import replay

WIRE_FORMAT = Path(__file__).parents[2] / "docs" / "wire-format.md"
REQUEST = b'{"request_id":"order-1","model":"diamonds","features":{"carat":0.23,"cut":"Ideal"}}'
Publish = Callable[[Settings, str, str, bytes, list[tuple[str, str]]], None]
Read = Callable[[Settings, str, int], list[dict[str, Any]]]


def _kcat_publishes(settings: Settings, topic: str, key: str, value: bytes, headers: list[tuple[str, str]]) -> None:
    options = [option for name, text in headers for option in ("-H", f"{name}={text}")]
    command = ["kcat", "-b", settings.kafka_bootstrap_servers, "-P", "-t", topic, "-k", key, "-X", "acks=all", *options]
    subprocess.run(command, input=value, check=True, timeout=120, capture_output=True)


def _kcat_reads(settings: Settings, topic: str, count: int) -> list[dict[str, Any]]:
    command = ["kcat", "-b", settings.kafka_bootstrap_servers, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-J"]
    lines = subprocess.run(
        [*command, "-c", str(count)], check=True, timeout=120, capture_output=True
    ).stdout.splitlines()
    found = []
    for line in lines:
        message = json.loads(line)
        headers = message.get("headers") or []
        pairs = dict(zip(headers[::2], headers[1::2], strict=True))
        found.append({"key": message["key"], "payload": message["payload"], "headers": pairs})
    return found


def _confluent_publishes(
    settings: Settings, topic: str, key: str, value: bytes, headers: list[tuple[str, str]]
) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers, "acks": "all"})
    producer.produce(topic, key=key, value=value, headers=[(name, text.encode()) for name, text in headers])
    assert producer.flush(30) == 0


def _confluent_reads(settings: Settings, topic: str, count: int) -> list[dict[str, Any]]:
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka_bootstrap_servers,
            "group.id": f"{topic}-foreign",
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    found = []
    try:
        while len(found) < count:
            messages = consumer.consume(count - len(found), timeout=120)
            assert messages, f"{len(found)} of {count} records came"
            for message in messages:
                assert message.error() is None
                headers = {name: value.decode() for name, value in message.headers() or ()}
                payload = message.value().decode()
                found.append({"key": message.key().decode(), "payload": payload, "headers": headers})
    finally:
        consumer.close()
    return found


@pytest.fixture(params=["kcat", "confluent-kafka"])
def client(request: pytest.FixtureRequest) -> Iterator[tuple[Publish, Read]]:
    """How each foreign client publishes and reads."""
    if request.param == "kcat":
        if shutil.which("kcat") is None:
            pytest.skip("kcat is not installed: `apt-get install kcat`")
        yield _kcat_publishes, _kcat_reads
    else:
        yield _confluent_publishes, _confluent_reads


def test_a_request_from_a_foreign_client_is_one_that_we_understand(
    settings: Settings, client: tuple[Publish, Read]
) -> None:
    """A key and a line of JSON are enough; no headers, no type, no time."""
    publish, _ = client
    publish(settings, topic_name(settings, REQUESTS), "order-1", REQUEST, [])
    (message,) = read_to_end(settings, REQUESTS)
    request = events.decode_request(message.value())
    assert (message.key(), request.request_id, request.model) == (b"order-1", "order-1", "diamonds")
    assert events.parse(request.features) == {"carat": 0.23, "cut": "Ideal"}


def test_headers_of_a_foreign_client_are_carried_into_the_answer(
    settings: Settings, client: tuple[Publish, Read]
) -> None:
    """CloudEvents and trace context go in at one end, and the foreign client reads them at the other."""
    publish, read = client
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    sent = [("traceparent", trace), ("ce_specversion", "1.0"), ("ce_id", "1"), ("ce_source", "/shop"), ("own", "x")]
    publish(settings, topic_name(settings, REQUESTS), "order-1", REQUEST, [*sent, ("ce_type", "shop.order.v1")])
    (message,) = read_to_end(settings, REQUESTS)
    request = events.decode_request(message.value())

    at = "2026-01-02T03:04:05Z"
    answer = events.decode_result(
        json.dumps(
            {
                "type": "prediction.completed.v1",
                "request_id": request.request_id,
                "model": request.model,
                "model_version": "1",
                "prediction": {"price": 326.5},
                "requested_at": at,
                "completed_at": at,
            }
        )
    )
    assert isinstance(answer, PredictionCompleted)
    headers = carried(message.headers(), event_type="prediction.completed.v1", event_id="order-1")
    producer = Producer(producer_options(settings))
    producer.produce(topic_name(settings, RESULTS), key=message.key(), value=events.encode(answer), headers=headers)
    assert producer.flush(30) == 0

    (result,) = read(settings, topic_name(settings, RESULTS), 1)
    assert result["key"] == "order-1"
    assert json.loads(result["payload"])["prediction"] == {"price": 326.5}
    assert result["headers"] == {
        "traceparent": trace,
        "ce_specversion": "1.0",
        "ce_source": "/shop",
        "ce_type": "prediction.completed.v1",
        "ce_id": "order-1",
    }


def test_a_foreign_client_reads_the_requests_that_we_publish(settings: Settings, client: tuple[Publish, Read]) -> None:
    """Key and JSON, one record a request, as the contract says."""
    _, read = client
    features = {"carat": 0.3, "cut": "Größe ✓"}
    report = replay(settings, [features] * 20, model="diamonds", id_prefix="ours", trace=True)
    assert report.accepted == 20
    found = read(settings, topic_name(settings, REQUESTS), 20)
    assert {message["key"] for message in found} == {f"ours-{number:08d}" for number in range(20)}
    for message in found:
        body = json.loads(message["payload"])
        assert (body["request_id"], body["model"], body["features"]) == (message["key"], "diamonds", features)
        assert body["type"] == "prediction.requested.v1"
        assert body["requested_at"].endswith("Z")
        assert message["headers"]["traceparent"].startswith("00-")


def _documented(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", WIRE_FORMAT.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_documented_python_producer_works(settings: Settings) -> None:
    """Word for word, but for the addresses."""
    code = _documented("python").replace("127.0.0.1:9092", settings.kafka_bootstrap_servers)
    code = code.replace("prediction-requests", topic_name(settings, REQUESTS))
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    (message,) = read_to_end(settings, REQUESTS)
    assert events.decode_request(message.value()).request_id == message.key().decode() == "order-1"


@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed: `apt-get install kcat`")
def test_the_documented_kcat_commands_work(settings: Settings) -> None:
    """Word for word, but for the addresses."""
    code = _documented("sh").replace("127.0.0.1:9092", settings.kafka_bootstrap_servers)
    code = code.replace("prediction-", f"{settings.topic_prefix}prediction-")
    subprocess.run(["bash", "-euc", code], check=True, timeout=300)
    (message,) = read_to_end(settings, REQUESTS)
    assert events.decode_request(message.value()).request_id == message.key().decode() == "order-1"


@pytest.mark.parametrize("text", re.findall(r"```json\n(.*?)```", WIRE_FORMAT.read_text(encoding="utf-8"), re.DOTALL))
def test_the_documented_events_are_events(text: str) -> None:
    """The examples decode as what they are said to be."""
    decoders = {"api.called.v1": events.decode_api_call, "prediction.shadowed.v1": events.decode_shadow}
    kind = json.loads(text).get("type")
    decode = events.decode_request if kind is None else decoders.get(kind, events.decode_result)
    assert str(decode(text).request_id).startswith("order-")

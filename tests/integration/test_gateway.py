"""The gateway on a real broker, with real workers and real HTTP: answers, restarts, replies, and its end.

Kills under load are in `test_several_gateways.py`.
"""

import json
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from inflight.settings import Settings
from inflight.stack.process import free_port
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.topics import LABELS, REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import (
    client_options,
    consumer_options,
    producer_options,
    read_to_end,
    topic_name,
)
from monitoring.audit.readers import run_audit
from tests.support.deployment import Deployment
from tests.support.http_clients import call
from tests.support.supervised import Supervised
from tests.support.waiting import until

ROW = {"carat": 0.23, "cut": "Ideal", "color": "E", "clarity": "SI2", "depth": 61.5, "table": 55.0}
ROW |= {"x": 3.95, "y": 3.98, "z": 2.43}


@pytest.fixture
def port() -> int:
    return free_port()


def is_ready(gateway: Supervised) -> bool:
    return gateway.serves()


def ready(*gateways: Supervised) -> None:
    until(lambda: all(map(is_ready, gateways)), 120, "the gateways are ready")


def test_predictions_over_http(deployment: Deployment, settings: Settings, port: int) -> None:
    """By the model's own route and by the common one, one row and many, and later; the audit finds all of it."""
    deployment.worker()
    gateway = deployment.gateway(port)
    deployment.serving(1)
    ready(gateway)
    listed = call(port, "GET", "/v1/models").body["models"]
    paths = {one["path"]: one for one in listed}
    assert set(paths) == {"/v1/diamonds/value"}
    for path, model in paths.items():
        friendly = call(port, "POST", path, model["example"])
        assert friendly.status == 200, friendly
        common = call(port, "POST", f"/v1/models/{model['name']}/predictions", {"features": model["example"]})
        assert common.status == 200, common
        prediction = common.body["prediction"]
        assert friendly.body == prediction | {
            "request_id": friendly.headers["x-request-id"],
            "model_version": model["version"],
        }
        later = call(port, "GET", f"/v1/predictions/{common.body['request_id']}")
        assert later.body == common.body
    wrong = call(port, "POST", "/v1/diamonds/value", ROW | {"carat": -1})
    assert wrong.status == 422
    assert wrong.body["field"] == "carat"
    assert wrong.body["example"]["cut"] == "Ideal"
    many = call(port, "POST", "/v1/models/diamonds/predictions", {"rows": [ROW, ROW | {"carat": -1}]})
    assert many.status == 207, many
    found = run_audit(settings, index=False)
    assert found.passed, found
    assert (found.accepted, found.completed, found.failed) == (5, 3, 2)

    label = call(port, "POST", f"/v1/predictions/{later.body['request_id']}/label", {"label": 326})
    assert label.status == 202, label
    (record,) = read_to_end(settings, LABELS)
    assert events.decode_label(record.value()).request_id == later.body["request_id"]


def test_a_request_outlives_its_gateway(deployment: Deployment, settings: Settings, port: int) -> None:
    """Accepted, gateway killed -9, worker only then: another gateway knows that it runs, and then its answer."""
    gateway = deployment.gateway(port)
    ready(gateway)
    key = {"Idempotency-Key": "order-1"}
    started = time.monotonic()
    accepted = call(port, "POST", "/v1/diamonds/value", ROW, key | {"Prefer": "wait=0.2"})
    assert accepted.status == 504, accepted
    assert time.monotonic() - started < 30
    where = accepted.headers["location"]
    deployment.kill(gateway)
    other_port = free_port()
    other = deployment.gateway(other_port)
    ready(gateway, other)
    for one in (port, other_port):
        assert call(one, "GET", where).status == 202
        assert call(one, "POST", "/v1/diamonds/value", ROW, key).status == 409
        assert call(one, "POST", "/v1/diamonds/value", ROW | {"carat": 1}, key).status == 422
    deployment.worker()
    until(lambda: call(other_port, "GET", where).status == 200, 120, "the other gateway has the answer")
    answers = [call(one, "POST", "/v1/diamonds/value", ROW, key) for one in (port, other_port)]
    assert [one.status for one in answers] == [200, 200]
    assert answers[0].body == answers[1].body
    assert len(list(read_to_end(settings, REQUESTS))) == 1


def test_sigterm_lets_open_requests_end(deployment: Deployment, port: int) -> None:
    """Nobody answers: the open request gets the address of its result, within the drain time, and the exit is clean."""
    gateway = deployment.gateway(port, gateway_drain_timeout=4)
    ready(gateway)
    answers: list[Any] = []
    body = {"features": ROW}
    ask = threading.Thread(
        target=lambda: answers.append(
            call(port, "POST", "/v1/models/diamonds/predictions", body, {"Prefer": "wait=50"}, timeout=60)
        )
    )
    ask.start()
    until(lambda: gateway.metric("inflight_gateway_in_flight_rows") == 1, 60, "the request waits")
    seconds = deployment.stop(gateway)
    ask.join(60)
    assert answers[0].status == 202, answers
    assert seconds < 10


def test_without_keys_it_does_not_listen_elsewhere(settings: Settings) -> None:
    """It says what to do, and ends with code 2; a port that is taken is named too."""
    variables = {"INFLIGHT_HOME": str(settings.home), "INFLIGHT_GATEWAY_METRICS_PORT": "0", "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-m", "inflight.cli", "gateway"]
    open_to_all = subprocess.run(
        command, env=variables | {"INFLIGHT_GATEWAY_HOST": "0.0.0.0"}, capture_output=True, text=True, timeout=120
    )
    assert open_to_all.returncode == 2
    assert "inflight keys add" in open_to_all.stderr


@pytest.fixture
def reply_topic(settings: Settings) -> str:
    name = f"{settings.topic_prefix}shop-replies"
    admin = AdminClient(client_options(settings))
    for future in admin.create_topics([NewTopic(name, 3, 1)]).values():
        future.result()
    return name


def test_replies_to_springs_headers(deployment: Deployment, settings: Settings, reply_topic: str) -> None:
    """The bytes that `ReplyingKafkaTemplate` writes: topic, correlation id, and partition in four bytes."""
    worker = deployment.worker(worker_reply_topics=json.dumps([f"{settings.topic_prefix}*"]))
    deployment.serving(1)
    producer = Producer(producer_options(settings))
    correlation = bytes(range(16))

    def ask(request_id: str, topic: bytes, partition: int | None = None, **features: Any) -> None:
        value = {"request_id": request_id, "model": "diamonds", "features": ROW | features}
        headers: list[tuple[str, bytes]] = [("kafka_replyTopic", topic), ("kafka_correlationId", correlation)]
        if partition is not None:
            headers.append(("kafka_replyPartition", partition.to_bytes(4, "big")))
        producer.produce(topic_name(settings, REQUESTS), json.dumps(value), "k", headers=headers)

    ask("good", reply_topic.encode(), 2)
    ask("bad", reply_topic.encode(), 2, carat=-1)
    ask("own", topic_name(settings, RESULTS).encode())
    ask("gone", f"{settings.topic_prefix}gone".encode())
    ask("foreign", b"__consumer_offsets")
    assert producer.flush(60) == 0
    consumer = Consumer(consumer_options(settings, "shop"))
    consumer.assign([TopicPartition(reply_topic, 2, 0)])
    replies: list[Any] = []
    until(
        lambda: replies.extend(one for one in consumer.consume(10, 0.5) if one.error() is None) or len(replies) >= 2,
        120,
        "both replies are there",
    )
    consumer.close()
    found = {events.decode_result(one.value()).request_id: one for one in replies}
    assert set(found) == {"good", "bad"}
    assert all(dict(one.headers())["kafka_correlationId"] == correlation for one in replies)
    assert all(one.key() == b"k" for one in replies)
    deployment.settles()
    results = [events.decode_result(one.value() or b"").request_id for one in read_to_end(settings, RESULTS)]
    assert sorted(results) == ["bad", "foreign", "gone", "good", "own"], "each once: no reply on the topic of results"
    assert worker.metric("inflight_worker_replies_total") == 3
    # A topic that does not exist holds nothing up.
    assert worker.is_alive()
    assert worker.exit_codes == []


def test_the_end_of_a_gateway_is_a_signal(deployment: Deployment, port: int) -> None:
    """SIGINT ends it as cleanly as SIGTERM."""
    gateway = deployment.gateway(port)
    ready(gateway)
    deployment.abandon(gateway)
    gateway._child.send_signal(signal.SIGINT)  # type: ignore[union-attr]
    assert gateway._child.wait(30) == 0  # type: ignore[union-attr]

"""Records that a broker takes and that could end every worker that reads them, for ever: each has its outcome."""

import json
from typing import Any

import msgspec
from confluent_kafka import Producer
from kafka import KafkaProducer

from machine_learning_engineering.dead_letters.letter import read_origin
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.headers import headers_of
from machine_learning_engineering.events.topics import DEAD_LETTERS, LOGS, MEBIBYTE, REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import producer_options, read_to_end, topic_name
from tests.support.broker_clients import set_topic
from tests.support.deployment import Deployment
from tests.support.waiting import until


class Latin(str):
    """A header's name as a client writes it that knows no UTF-8."""

    def encode(self, *_: Any) -> bytes:
        return b"caf\xe9"


def request(deployment: Deployment, name: str) -> tuple[bytes, bytes]:
    (features,) = deployment.diamonds(1)
    return name.encode(), msgspec.json.encode({"request_id": name, "model": "diamonds", "features": features})


def test_each_has_one_outcome_and_no_worker_ends(deployment: Deployment, search: Any) -> None:
    """Large when it is unpacked, with headers as large as a record, and with a name that the client can't read.

    The dead letter of the first one goes through the indexer and the exporter, which read its headers.
    """
    settings, prefix = deployment.settings, deployment.settings.topic_prefix
    topic = topic_name(settings, REQUESTS)
    # As on a topic that others made: ours has the broker unpack such a record, and refuse it.
    set_topic(settings, REQUESTS, "compression.type", "producer")
    worker, indexer, exporter = deployment.worker(), deployment.indexer(), deployment.exporter()
    unpacked = json.dumps({"request_id": f"{prefix}large", "padding": "x" * 12 * MEBIBYTE}).encode()
    producer = Producer({**producer_options(settings), "message.max.bytes": 32 * MEBIBYTE, "compression.type": "gzip"})
    producer.produce(topic, unpacked, f"{prefix}large")
    key, value = request(deployment, f"{prefix}headers")
    trace = ("traceparent", b"\x01" * (MEBIBYTE + MEBIBYTE // 4))
    producer.produce(topic, value, key, headers=[trace, ("ce_specversion", b"1.0"), ("ce_note", b"y" * 3 * MEBIBYTE)])
    assert producer.flush(60) == 0
    foreign = KafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers, acks="all")
    key, value = request(deployment, f"{prefix}latin")
    foreign.send(topic, value, key, headers=[(Latin("x"), b"1"), ("traceparent", b"2")]).get(60)
    foreign.send(topic, b"no request", f"{prefix}text".encode(), headers=[(Latin("x"), b"1")]).get(60)
    foreign.close()
    key, value = request(deployment, f"{prefix}good")
    producer.produce(topic, value, key)
    assert producer.flush(60) == 0

    until(lambda: deployment.results() == 2, 300, "two of them are answered")
    deployment.settles(index=True)
    letters = list(read_to_end(settings, DEAD_LETTERS))
    until(lambda: exporter.metric("inflight_dead_letters_total") == 3, 300, "the exporter has counted all letters")
    assert [process.exit_codes for process in (worker, indexer, exporter)] == [[], [], []]

    results = [events.decode_result(record.value()) for record in read_to_end(settings, RESULTS)]
    assert {result.request_id.removeprefix(prefix) for result in results} == {"latin", "good"}
    assert not [result for result in results if hasattr(result, "error")]
    for record in [*read_to_end(settings, RESULTS), *read_to_end(settings, LOGS)]:
        assert not headers_of(record)
    by_name = {(letter.key() or b"").decode().removeprefix(prefix): letter for letter in letters}
    assert {name: read_origin(headers_of(letter)).reason for name, letter in by_name.items()} == {
        "large": "too_large",
        "headers": "too_large",
        "text": "not_json",
    }
    kept = {name for name, _ in headers_of(by_name["headers"]) if not name.startswith("dlq_")}
    assert kept == {"ce_specversion"}
    large = by_name["large"]
    assert large.value() == unpacked[:MEBIBYTE]
    assert f"truncated from {len(unpacked)}"[:18] in read_origin(headers_of(large)).message
    assert by_name["text"].value() == b"no request"

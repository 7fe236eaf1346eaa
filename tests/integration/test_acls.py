"""The access rights of docs/security.md on a broker that enforces them: they suffice, and none is superfluous."""

import json
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from inflight.settings import Settings
from machine_learning_engineering.events.topics import (
    DEAD_LETTERS,
    LABELS,
    LOGS,
    MEASUREMENTS,
    MODEL_EVENTS,
    REQUESTS,
    RESULTS,
    TOPICS,
)
from machine_learning_engineering.kafka.client import client_options, create_topics, read_to_end
from monitoring.elastic.client import connect, request
from monitoring.runtime.groups import READS
from tests.conftest import MISSING_TOOLS
from tests.support.secured_kafka import OPERATOR, SecuredKafkaNode, access_rights
from tests.support.supervised import Supervised
from tests.support.waiting import until

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
SECONDS = 120.0
DIAMOND = {"carat": 0.23, "cut": "Ideal", "color": "E", "clarity": "SI2", "depth": 61.5, "table": 55.0, "x": 3.95}
DIAMOND |= {"y": 3.98, "z": 2.43}

pytestmark = pytest.mark.skipif(bool(MISSING_TOOLS), reason="no real broker without Java and Maven")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafkaNode]:
    rights = list(access_rights(PAGE))
    users = {right.principal.removeprefix("User:") for right in rights} - {"*"}
    node = SecuredKafkaNode(tmp_path_factory.mktemp("secured") / "kafka")
    node.users = tuple(sorted(users))
    try:
        node.start()
        operator = settings_of(node, OPERATOR)
        create_topics(operator)
        admin = AdminClient(client_options(operator))
        for done in admin.create_acls(rights).values():
            done.result(30)
        yield node
    finally:
        node.kill()


def settings_of(node: SecuredKafkaNode, user: str, **given: Any) -> Settings:
    servers = node.bootstrap_servers
    return Settings(_env_file=None, kafka_bootstrap_servers=servers, kafka_options=node.options(user), **given)


def write(settings: Settings, topic: str) -> str | None:
    """Produce a record; the name of the error, or None."""
    errors: list[KafkaError | None] = []
    producer = Producer(client_options(settings) | {"delivery.timeout.ms": 20_000})
    producer.produce(topic, b"{}", b"a key", on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(30) == 0
    [error] = errors
    return None if error is None else str(error.name())


def read(settings: Settings, topic: str) -> str | None:
    """Read from the start of a topic; the name of the error, or None."""
    consumer = Consumer(client_options(settings) | {"group.id": "unused", "enable.partition.eof": True})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        while True:
            [message] = consumer.consume(1, 30)
            error = message.error()
            if error is None or error.code() == KafkaError._PARTITION_EOF:
                return None
            # The group is nobody's: not what is asked here.
            if error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
                return str(error.name())
    finally:
        consumer.close()


PROCESSES = ("worker", "indexer", "exporter", "drift-monitor", "label-joiner")


def test_all_processes_run_with_these_rights(
    secured: SecuredKafkaNode, models: Settings, search: Any, tmp_path: Path
) -> None:
    """A request of `sender` is answered, indexed and counted; a record that is none becomes a dead letter."""
    if not search.is_alive():
        search.start()
    processes = []
    try:
        for command in PROCESSES:
            environment = {
                "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": secured.bootstrap_servers,
                "INFLIGHT_KAFKA_OPTIONS": json.dumps(secured.options(command)),
                "INFLIGHT_ELASTICSEARCH_URL": search.url,
                "INFLIGHT_HOME": str(models.home.absolute()),
            }
            kind = command.replace("-", "_")
            owns = f"inflight_{kind}_assigned_partitions [1-9]" if kind in ("worker", "drift_monitor") else ""
            process = Supervised(command, command, tmp_path / "processes", environment, owns)
            processes.append(process)
            process.launch()
        for process in processes:
            process.wait_ready()

        sender = settings_of(secured, "sender", elasticsearch_url=search.url)
        ids = [f"acl-{number}" for number in range(20)]
        producer = Producer(client_options(sender) | {"enable.idempotence": True})
        for one in ids:
            value = json.dumps({"request_id": one, "model": "diamonds", "features": DIAMOND})
            producer.produce(REQUESTS, value.encode(), one.encode())
        producer.produce(REQUESTS, b"no request", b"acl-bad")
        assert producer.flush(60) == 0

        def answered() -> set[str]:
            values = [json.loads(record.value() or b"{}") for record in read_to_end(sender, RESULTS, timeout=10)]
            return {value["request_id"] for value in values if value["request_id"].startswith("acl-")}

        until(lambda: set(ids) <= answered(), SECONDS, "all requests answered")
        operator = settings_of(secured, OPERATOR, elasticsearch_url=search.url)

        with connect(operator) as client:
            query = {"query": {"prefix": {"inference.request_id": "acl-"}}, "track_total_hits": True}

            def indexed() -> int:
                request(client, "POST", "/inference-logs-*/_refresh")
                found = request(client, "POST", "/inference-logs-*/_search", query)
                return int(found["hits"]["total"]["value"])

            until(lambda: indexed() == len(ids), SECONDS, "all requests indexed")
            labels = Producer(client_options(settings_of(secured, "labels")) | {"enable.idempotence": True})
            label = {"request_id": ids[0], "model": "diamonds", "label": 326.0}
            label |= {"type": "label.reported.v1", "observed_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
            labels.produce(LABELS, json.dumps(label).encode(), ids[0].encode())
            assert labels.flush(60) == 0
            labelled = {"query": {"exists": {"field": "inflight.label"}}}

            def joined() -> bool:
                request(client, "POST", "/inference-logs-*/_refresh")
                found = request(client, "POST", "/inference-logs-*/_search", labelled)
                return ids[0] in {hit["_source"]["inference"]["request_id"] for hit in found["hits"]["hits"]}

            until(joined, SECONDS, "the label joined")
        assert [record.key() for record in read_to_end(operator, DEAD_LETTERS)] == [b"acl-bad"]

        exporter = processes[2]
        until(lambda: 'model="diamonds"' in text(exporter), SECONDS, "the requests are counted")
        lags = [f'group="{group}"' for group in READS]
        until(lambda: all(lag in text(exporter) for lag in lags), SECONDS, "the lag of every group is exported")
        assert all(process.is_alive() for process in processes)
        logs = [process.log_path.read_text() for process in processes]
        assert not [line for log in logs for line in log.splitlines() if "uthorization" in line]
    finally:
        for process in processes:
            process.kill()


def text(process: Supervised) -> str:
    with urllib.request.urlopen(process.metrics_url, timeout=5) as response:
        return str(response.read().decode())


WRITERS = {
    REQUESTS: {"sender"},
    RESULTS: {"worker"},
    LOGS: {"worker"},
    DEAD_LETTERS: {"worker", "indexer", "label-joiner"},
    LABELS: {"labels"},
    MODEL_EVENTS: {"drift-monitor", "training"},
    MEASUREMENTS: {"drift-monitor", "label-joiner"},
}


@pytest.mark.parametrize("topic", WRITERS)
def test_nobody_else_writes_a_topic(secured: SecuredKafkaNode, topic: str) -> None:
    refused = {user: write(settings_of(secured, user), topic) for user in secured.users}
    assert {user for user, error in refused.items() if error is None} == WRITERS[topic]
    assert {error for error in refused.values() if error} == {"TOPIC_AUTHORIZATION_FAILED"}


@pytest.mark.parametrize(
    ("topic", "readers"),
    [
        (REQUESTS, {"worker"}),
        (RESULTS, {"sender"}),
        (DEAD_LETTERS, {"indexer", "exporter"}),
        (LABELS, {"label-joiner", "features"}),
    ],
)
def test_nobody_else_reads_what_may_be_personal(secured: SecuredKafkaNode, topic: str, readers: set[str]) -> None:
    refused = {user: read(settings_of(secured, user), topic) for user in secured.users}
    assert {user for user, error in refused.items() if error is None} == readers


def test_a_wrong_password_is_one_line(secured: SecuredKafkaNode) -> None:
    """And no user's rights."""
    wrong = secured.options("worker") | {"sasl.password": "guessed"}
    settings = settings_of(secured, "worker").model_copy(update={"kafka_options": wrong})
    with pytest.raises(KafkaException):
        create_topics(settings, timeout=5)


def test_the_page_covers_every_topic() -> None:
    """Describe for all, so that no process tries to create what it can't see."""
    described = {right.name for right in access_rights(PAGE) if right.principal == "User:*"}
    assert described == {topic.name for topic in TOPICS}

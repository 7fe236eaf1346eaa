"""The access rights of docs/security.md on a broker that enforces them: they suffice, and nobody has more."""

import json
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from inflight.settings import Settings
from inflight.stack.process import free_port
from inflight.supervisor.specs import READY
from machine_learning_engineering.events.topics import (
    DEAD_LETTERS,
    DRIFT_STATE,
    LABELS,
    MODEL_EVENTS,
    REQUESTS,
    RESULTS,
    TOPICS,
)
from machine_learning_engineering.kafka.client import client_options, create_topics, read_to_end
from machine_learning_engineering.kafka.promotions import announce_promotion
from monitoring.elastic.client import connect, request
from monitoring.runtime.groups import READS
from tests.conftest import MISSING_TOOLS
from tests.support.http_clients import call
from tests.support.secured_kafka import OPERATOR, SecuredKafkaNode, access_rights, access_table, quota_commands
from tests.support.supervised import Supervised
from tests.support.waiting import until

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
TABLE = access_table(PAGE)
TOPIC_NAMES = tuple(topic.name for topic in TOPICS)
SECONDS = 300.0
DIAMOND = {"carat": 0.23, "cut": "Ideal", "color": "E", "clarity": "SI2", "depth": 61.5, "table": 55.0, "x": 3.95}
DIAMOND |= {"y": 3.98, "z": 2.43}

needs_broker = pytest.mark.skipif(bool(MISSING_TOOLS), reason="no real broker without Java and Maven")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafkaNode]:
    rights = list(access_rights(PAGE))
    users = {right.principal.removeprefix("User:") for right in rights} - {"*"}
    node = SecuredKafkaNode(tmp_path_factory.mktemp("secured") / "kafka")
    node.users = tuple(sorted(users))
    node.seconds_to_ready = SECONDS
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
    # A commit of the group, which is nobody's, would keep `close` waiting for 45 s.
    options = {"group.id": "unused", "enable.partition.eof": True, "enable.auto.commit": False}
    consumer = Consumer(client_options(settings) | options)
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        while True:
            [message] = consumer.consume(1, 60)
            error = message.error()
            if error is None or error.code() == KafkaError._PARTITION_EOF:
                return None
            # The group is nobody's: not what is asked here.
            if error.code() != KafkaError.GROUP_AUTHORIZATION_FAILED:
                return str(error.name())
    finally:
        consumer.close()


def join(settings: Settings, group: str) -> str | None:
    """Join a consumer group; the name of the error, or None."""
    joined: list[bool] = []
    consumer = Consumer(client_options(settings) | {"group.id": group})
    try:
        consumer.subscribe([REQUESTS], on_assign=lambda *_: joined.append(True))
        for _ in range(int(SECONDS)):
            for message in consumer.consume(1, 1):
                error = message.error()
                if error is not None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                    return str(error.name())
            if joined:
                return None
        pytest.fail(f"neither joined {group} nor was refused")
    finally:
        consumer.close()


PROCESSES = {
    "worker": "worker",
    "indexer": "indexer",
    "exporter": "exporter",
    "drift-monitor": "drift-monitor",
    "label-joiner": "label-joiner",
    "features": "features follow diamonds --every 1",
    "gateway": "gateway",
    "archive": "archive",
    "rollout-controller": "rollout-controller",
    "retrainer": "retrainer",
}


@needs_broker
def test_all_processes_run_with_these_rights(
    secured: SecuredKafkaNode, models: Settings, nodes: Callable[[str, str], Any], tmp_path: Path
) -> None:
    """A request of `sender` is answered, indexed, measured and counted, and its label joined; also one over HTTP.

    A record that is no request becomes a dead letter. Every group commits what it read.
    """
    search, port = nodes("search", "embedded"), free_port()
    processes: dict[str, Supervised] = {}
    try:
        for user, command in PROCESSES.items():
            environment = {
                "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": secured.bootstrap_servers,
                "INFLIGHT_KAFKA_OPTIONS": json.dumps(secured.options(user)),
                "INFLIGHT_ELASTICSEARCH_URL": search.url,
                "INFLIGHT_HOME": str(models.home.absolute()),
                "INFLIGHT_GATEWAY_PORT": str(port),
                "INFLIGHT_ARCHIVE_URL": f"sqlite:///{tmp_path / 'archive.sqlite'}",
            }
            kind = user.replace("-", "_")
            owns = f"inflight_{kind}_assigned_partitions [1-9]" if user in ("worker", "drift-monitor") else ""
            owns = READY["gateway"] if user == "gateway" else owns
            processes[user] = Supervised(user, command, tmp_path / "processes", environment, owns)
            processes[user].seconds_to_ready = SECONDS
            processes[user].launch()
        for process in processes.values():
            process.wait_ready()

        sender = settings_of(secured, "sender")
        ids = [f"acl-{number}" for number in range(20)]
        producer = Producer(client_options(sender) | {"enable.idempotence": True})
        for one in ids:
            value = json.dumps({"request_id": one, "model": "diamonds", "features": DIAMOND})
            producer.produce(REQUESTS, value.encode(), one.encode())
        producer.produce(REQUESTS, b"no request", b"acl-bad")
        assert producer.flush(60) == 0

        def answered() -> set[str]:
            return {json.loads(record.value() or b"{}")["request_id"] for record in read_to_end(sender, RESULTS)}

        until(lambda: set(ids) <= answered(), SECONDS, "all requests answered")
        operator = settings_of(secured, OPERATOR, elasticsearch_url=search.url)
        with connect(operator) as client:

            def found(field: str) -> set[str]:
                request(client, "POST", "/inference-logs-*/_refresh")
                query = {"query": {"exists": {"field": field}}, "size": 100}
                hits = request(client, "POST", "/inference-logs-*/_search", query)["hits"]["hits"]
                return {hit["_source"]["inflight"]["request_id"] for hit in hits}

            until(lambda: set(ids) <= found("inflight.request_id"), SECONDS, "all requests indexed")
            labels = Producer(client_options(settings_of(secured, "labels")) | {"enable.idempotence": True})
            label = {"request_id": ids[0], "model": "diamonds", "label": 326.0}
            label |= {"type": "label.reported.v1", "observed_at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
            labels.produce(LABELS, json.dumps(label).encode(), ids[0].encode())
            assert labels.flush(60) == 0
            until(lambda: ids[0] in found("inflight.label"), SECONDS, "the label joined")
            answer = call(port, "POST", "/v1/diamonds/value", DIAMOND, {"Prefer": "wait=50"}, timeout=60)
            assert answer.status == 200, answer
            over_http = answer.body["request_id"]
            assert call(port, "POST", f"/v1/predictions/{over_http}/label", {"label": 326}).status == 202
            until(lambda: over_http in found("inflight.label"), SECONDS, "the label over HTTP joined")
        announce_promotion(settings_of(secured, "training"), "diamonds", "v1", reason="a test", timeout=60)
        assert [record.key() for record in read_to_end(operator, DEAD_LETTERS)] == [b"acl-bad"]

        exporter = processes["exporter"]
        until(lambda: 'model="diamonds"' in text(exporter), SECONDS, "the requests are counted")
        lags = [
            f'inflight_consumer_lag_records{{group="{group}",topic="{topic}"}} 0.0'
            for group, topics in READS.items()
            for topic in topics
        ]
        until(lambda: all(lag in text(exporter) for lag in lags), SECONDS, "every group has read and committed all")
        assert all(process.is_alive() for process in processes.values())
        logs = "\n".join(process.log_path.read_text() for process in processes.values())
        assert not [line for line in logs.splitlines() if "uthoriz" in line]
    finally:
        for process in processes.values():
            process.kill()


def text(process: Supervised) -> str:
    with urllib.request.urlopen(process.metrics_url, timeout=5) as response:
        return str(response.read().decode())


@needs_broker
@pytest.mark.parametrize("topic", TOPIC_NAMES)
def test_nobody_else_writes_a_topic(secured: SecuredKafkaNode, topic: str) -> None:
    told = {user: write(settings_of(secured, user), topic) for user in TABLE}
    assert {user for user, error in told.items() if error is None} == {
        u for u, row in TABLE.items() if topic in row.writes
    }
    assert {error for error in told.values() if error} == {"TOPIC_AUTHORIZATION_FAILED"}


@needs_broker
@pytest.mark.parametrize("topic", TOPIC_NAMES)
def test_nobody_else_reads_a_topic(secured: SecuredKafkaNode, topic: str) -> None:
    told = {user: read(settings_of(secured, user), topic) for user in TABLE}
    assert {user for user, error in told.items() if error is None} == {
        u for u, row in TABLE.items() if topic in row.reads
    }
    assert {error for error in told.values() if error} <= {"TOPIC_AUTHORIZATION_FAILED"}


@needs_broker
def test_nobody_else_takes_requests_from_the_workers(secured: SecuredKafkaNode) -> None:
    """Not even the exporter, which may ask for the group's offsets."""
    told = {user: join(settings_of(secured, user), "inflight-worker") for user in TABLE}
    assert {user for user, error in told.items() if error is None} == {"worker"}


@needs_broker
def test_nobody_else_makes_topics_or_changes_them(secured: SecuredKafkaNode) -> None:
    for user in TABLE:
        admin = AdminClient(client_options(settings_of(secured, user)))
        [created] = admin.create_topics([NewTopic("own", 1, 1)]).values()
        changed = ConfigResource(ConfigResource.Type.TOPIC, REQUESTS)
        entry = ConfigEntry("compression.type", "producer", incremental_operation=AlterConfigOpType.SET)
        changed.add_incremental_config(entry)
        [altered] = admin.incremental_alter_configs([changed]).values()
        for outcome in (created, altered):
            with pytest.raises(KafkaException) as refused:
                outcome.result(60)
            assert refused.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


@needs_broker
def test_the_commands_for_quotas_slow_a_sender_down(secured: SecuredKafkaNode) -> None:
    """The broker makes it wait for its answers."""
    commands = quota_commands(PAGE)
    assert len(commands) == 3
    for command in commands:
        secured.configure(command)
    throttled: list[float] = []
    options = client_options(settings_of(secured, "labels"))
    producer = Producer({**options, "throttle_cb": lambda event: throttled.append(event.throttle_time)})
    for _ in range(5_000):
        producer.produce(LABELS, b"{}" * 8_000)
        assert producer.flush(60) == 0
        if throttled:
            return
    pytest.fail("80 MB were not slowed down")


@needs_broker
def test_a_wrong_password_is_one_line(secured: SecuredKafkaNode) -> None:
    """And no user's rights."""
    wrong = secured.options("worker") | {"sasl.password": "guessed"}
    settings = settings_of(secured, "worker").model_copy(update={"kafka_options": wrong})
    with pytest.raises(KafkaException):
        create_topics(settings, timeout=5)


def test_the_page_covers_every_topic() -> None:
    """Describe and DescribeConfigs for all, which each process asks for when it starts."""
    given = [right for right in access_rights(PAGE) if right.principal == "User:*"]
    for operation in (AclOperation.DESCRIBE, AclOperation.DESCRIBE_CONFIGS):
        assert {right.name for right in given if right.operation == operation} == set(TOPIC_NAMES)


def test_the_commands_give_what_the_table_says() -> None:
    """To each principal: topics, and groups without a pattern."""
    rights = list(access_rights(PAGE))
    for user, row in TABLE.items():
        own = [right for right in rights if right.principal == f"User:{user}"]

        def names(kind: ResourceType, operation: AclOperation, own: list[AclBinding] = own) -> set[str]:
            return {right.name for right in own if right.restype == kind and right.operation == operation}

        assert names(ResourceType.TOPIC, AclOperation.READ) == row.reads, user
        assert names(ResourceType.TOPIC, AclOperation.WRITE) == row.writes, user
        assert names(ResourceType.GROUP, AclOperation.READ) - {"sender"} == row.joins, user
    assert {right.principal.removeprefix("User:") for right in rights} == {*TABLE, "*"}


def test_a_group_reads_what_its_process_subscribes_to() -> None:
    """The worker reads model events, and the drift monitor its state, without a commit."""
    uncommitted = {"inflight-worker": {MODEL_EVENTS}, "inflight-drift-monitor": {DRIFT_STATE}}
    for group, topics in READS.items():
        [row] = [row for row in TABLE.values() if group in row.joins]
        assert row.reads == {*topics} | uncommitted.get(group, set())
    described = {
        r.name for r in access_rights(PAGE) if r.principal == "User:exporter" and r.restype == ResourceType.GROUP
    }
    assert described == set(READS)

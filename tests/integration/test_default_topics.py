"""A broker that creates topics by itself, with Kafka's defaults: what is refused, what is warned of, and what works."""

import json
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from confluent_kafka import KafkaError, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from inflight.settings import Settings
from inflight.stack.elasticsearch import ElasticsearchNode
from inflight.stack.kafka import KafkaNode
from inflight.stack.process import Launch
from machine_learning_engineering.dead_letters.letter import read_origin
from machine_learning_engineering.events.headers import headers_of
from machine_learning_engineering.events.topics import (
    API_CALLS,
    DEAD_LETTERS,
    DRIFT_STATE,
    LABELS,
    LOGS,
    MEASUREMENTS,
    MEBIBYTE,
    MODEL_EVENTS,
    REQUESTS,
    RESULTS,
    TOPICS,
)
from machine_learning_engineering.kafka.client import client_options, end_offsets, read_to_end, topic_name
from machine_learning_engineering.kafka.topic_check import check_topics
from machine_learning_engineering.sdk import MLEModel
from monitoring.audit.readers import run_audit
from monitoring.documents.log import index_name
from monitoring.elastic.client import connect
from monitoring.elastic.scan import documents
from tests.conftest import MISSING_TOOLS
from tests.support.broker_clients import set_topic
from tests.support.deployment import Deployment
from tests.support.waiting import figures, until

pytestmark = pytest.mark.skipif(bool(MISSING_TOOLS), reason="no real broker without Java and Maven")

ALL = [topic.name for topic in TOPICS]
OUTPUTS = (RESULTS, LOGS, DEAD_LETTERS)
REFUSED = {
    ("worker",): set(OUTPUTS),
    ("indexer",): {DEAD_LETTERS},
    ("drift-monitor",): {MEASUREMENTS, DRIFT_STATE},
    ("label-joiner",): {DEAD_LETTERS, MEASUREMENTS},
}
"""The processes that do not start on topics with Kafka's defaults, and those whose limit they name."""
COMMAND = re.compile(r"kafka-configs --alter --topic (\S+) --add-config ([^=\s]+)=([^\s\"]+)")


class SelfCreatingKafkaNode(KafkaNode):
    """A broker as it comes: whoever names a topic first makes it, with the broker's defaults."""

    def prepare(self) -> Launch:
        launch = super().prepare()
        with (self.directory / "server.properties").open("a") as properties:
            # Of two lines with one name the later one counts.
            properties.write("auto.create.topics.enable=true\n")
        return launch


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaNode]:
    node = SelfCreatingKafkaNode(tmp_path_factory.mktemp("defaults") / "kafka")
    try:
        node.start()
        yield node
    finally:
        node.kill()


@pytest.fixture
def foreign(
    kafka: KafkaNode,
    search: ElasticsearchNode,
    models: Settings,
    diamonds: MLEModel,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    """A deployment whose topics nobody has made yet."""
    settings = Settings(
        _env_file=None,
        home=tmp_path_factory.mktemp("home"),
        kafka_bootstrap_servers=kafka.bootstrap_servers,
        elasticsearch_url=search.url,
        topic_prefix=f"d{uuid.uuid4().hex[:8]}-",
    )
    with Deployment(settings, models, diamonds) as found:
        yield found


def produce(settings: Settings, topic: str, value: bytes, **options: Any) -> str | None:
    """Write as a client with its library's defaults does; the name of the error, or None."""
    errors: list[KafkaError | None] = []
    record = {name: options.pop(name) for name in ("key", "timestamp") if name in options}
    producer = Producer(
        {"bootstrap.servers": settings.kafka_bootstrap_servers, "message.max.bytes": 8_000_000} | options
    )
    producer.produce(topic_name(settings, topic), value, on_delivery=lambda error, _: errors.append(error), **record)
    assert producer.flush(120) == 0
    [error] = errors
    return None if error is None else str(error.name())


def config_of(settings: Settings, topic: str) -> dict[str, str]:
    asked = [ConfigResource(ResourceType.TOPIC, topic_name(settings, topic))]
    admin = AdminClient(client_options(settings))
    [told] = admin.describe_configs(asked).values()
    return {name: entry.value for name, entry in told.result(60).items()}


def body(deployment: Deployment, request_id: str, **changes: object) -> bytes:
    (features,) = deployment.diamonds(1)
    # All tests share one index.
    request_id = deployment.settings.topic_prefix + request_id
    return msgspec.json.encode({"request_id": request_id, "model": "diamonds", "features": features | changes})


def run(deployment: Deployment, *command: str) -> subprocess.CompletedProcess[str]:
    """A command of ours that ends by itself."""
    environment = {**os.environ, **deployment.environment}
    for name in ("WORKER", "INDEXER", "DRIFT_MONITOR", "LABEL_JOINER"):
        environment[f"INFLIGHT_{name}_METRICS_PORT"] = "0"
    arguments = [sys.executable, "-m", "inflight.cli", *command]
    home = deployment.settings.home
    return subprocess.run(
        arguments, env=environment, cwd=home, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.timeout(900)
def test_requests_on_a_topic_that_the_broker_made_are_answered(foreign: Deployment) -> None:
    """Its producer came first. The other topics are ours, also on a broker that makes whatever is asked for."""
    settings = foreign.settings
    assert produce(settings, REQUESTS, body(foreign, "first"), key=b"a customer") is None
    found = config_of(settings, REQUESTS)
    wanted = {"message.timestamp.type": "CreateTime", "max.message.bytes": "1048588", "cleanup.policy": "delete"}
    assert {name: found[name] for name in wanted} == wanted
    processes = [foreign.worker(), foreign.indexer(), foreign.exporter(), foreign.drift_monitor()]
    processes += [foreign.label_joiner(), foreign.features(), foreign.archive()]
    for process in processes:
        until(process.serves, 300, f"{process.name} serves")

    yesterday = datetime.now(UTC) - timedelta(days=1)
    milliseconds = int(yesterday.timestamp() * 1_000)
    assert produce(settings, REQUESTS, body(foreign, "yesterday"), timestamp=milliseconds) is None
    assert produce(settings, REQUESTS, body(foreign, "long", cut="x" * 900_000)) is None
    # Above the topic's limit as it is; compressed it passes, and is no request any more.
    heavy = body(foreign, "heavy", cut="x" * 3 * MEBIBYTE)
    assert produce(settings, REQUESTS, heavy) == "MSG_SIZE_TOO_LARGE"
    assert produce(settings, REQUESTS, heavy, **{"compression.type": "zstd"}) is None
    foreign.settles(index=True)

    audit = run_audit(settings, settings.topic_prefix)
    assert audit.passed, audit
    assert (audit.accepted, audit.completed, audit.failed, audit.dead_letters) == (4, 2, 1, 1), audit
    assert (audit.indexed_distinct, audit.unindexed) == (3, 0), audit
    [letter] = read_to_end(settings, DEAD_LETTERS)
    assert read_origin(headers_of(letter)).reason == "too_large"
    # The day of a request is its producer's, as the page says.
    with connect(settings) as client:
        wanted_ids = [(index_name(day), f"{settings.topic_prefix}yesterday") for day in (yesterday, datetime.now(UTC))]
        assert [hit is not None for hit in documents(client, wanted_ids)] == [True, False]
    assert [process.exit_codes for process in processes] == [[]] * len(processes)
    told = {
        (one.topic.removeprefix(settings.topic_prefix), one.setting) for one in check_topics(settings, ALL, OUTPUTS)
    }
    ours = [(REQUESTS, name) for name in ("message.timestamp.type", "max.message.bytes", "compression.type")]
    assert told == {*ours, *((topic, "number of partitions") for topic in OUTPUTS)}
    log = processes[0].log_path.read_text()
    for setting in (
        "message.timestamp.type is CreateTime",
        "max.message.bytes is 1048588",
        "compression.type is producer",
    ):
        assert log.count(f"topic {topic_name(settings, REQUESTS)}: {setting}") == 1
    figures(accepted=audit.accepted, completed=audit.completed, failed=audit.failed, dead_letters=audit.dead_letters)


@pytest.mark.timeout(900)
def test_topics_that_the_broker_made_are_refused_and_mended_by_the_commands_that_are_told(foreign: Deployment) -> None:
    """Each writer names those that are too small; who only reads starts. With the fixes applied all is well."""
    settings = foreign.settings
    for name in ALL:
        value = body(foreign, "first") if name == REQUESTS else b""
        assert produce(settings, name, value, key=b"a key") is None
        assert end_offsets(settings, name) == {0: (0, 1)}
    for command, topics in REFUSED.items():
        done = run(foreign, *command)
        assert done.returncode == 2, done.stdout + done.stderr
        said = done.stdout + done.stderr
        assert "Traceback" not in said
        fatal = re.findall(r"topic (\S+): max\.message\.bytes is 1048588, wanted 8388608 or more", said)
        assert set(fatal) == {topic_name(settings, topic) for topic in topics}, said
    # A sender writes requests and labels alone: both are warned of.
    (settings.home / "one.jsonl").write_bytes(msgspec.json.encode(next(foreign.diamonds(1))) + b"\n")
    sent = run(foreign, "replay", "one.jsonl", "--model", "diamonds", "--id-prefix", settings.topic_prefix)
    assert sent.returncode == 0, sent.stderr
    assert f"warning: topic {topic_name(settings, LABELS)}: compression.type is producer" in sent.stderr
    readers = [foreign.exporter(), foreign.features(), foreign.archive()]
    for process in readers:
        until(process.serves, 300, f"{process.name} serves")

    doctor = run(foreign, "doctor", "--json")
    assert doctor.returncode != 0, doctor.stdout
    fixes = {match.groups() for match in COMMAND.finditer(doctor.stdout)}
    assert {(topic_name(settings, MODEL_EVENTS), "cleanup.policy", "compact")} < fixes
    for topic, setting, value in fixes:
        set_topic(settings, topic.removeprefix(settings.topic_prefix), setting, value)
    assert check_topics(settings, ALL, [*OUTPUTS, MEASUREMENTS, API_CALLS, DRIFT_STATE]) == []
    for process in (foreign.worker(), foreign.indexer(), foreign.drift_monitor(), foreign.label_joiner()):
        until(process.serves, 300, f"{process.name} serves")
    until(lambda: foreign.results() >= 3, 300, "both requests are answered, behind the record that is none of ours")
    assert [process.exit_codes for process in readers] == [[], [], []]
    figures(faults=json.dumps(sorted(f"{topic} {setting}" for topic, setting, _ in fixes)))

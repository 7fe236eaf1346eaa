"""Spring's own ReplyingKafkaTemplate, from Maven Central, gets its answers from the workers."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from inflight.settings import Settings
from inflight.stack.maven import Artifact, resolve_jars
from inflight.stack.process import foreign_environment
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.topics import REQUESTS
from machine_learning_engineering.kafka.client import client_options, topic_name
from monitoring.audit.readers import run_audit
from tests.conftest import MISSING_TOOLS
from tests.support.deployment import Deployment

PROGRAM = Path(__file__).parents[1] / "support" / "programs" / "SpringCaller.java"
SPRING_KAFKA_VERSION = "4.0.0"
COUNT = 40
BAD = 7
"""Every so many requests have a feature that no diamond has."""


@pytest.fixture(scope="module")
def jars() -> Path:
    missing = MISSING_TOOLS or [tool for tool in ("javac",) if shutil.which(tool) is None]
    if missing:
        assert not os.environ.get("REQUIRE_REAL"), f"{missing} missing: apt-get install default-jdk-headless maven"
        pytest.skip(f"{' and '.join(missing)} missing (apt-get install default-jdk-headless maven)")
    spring = Artifact("org.springframework.kafka", "spring-kafka", SPRING_KAFKA_VERSION)
    return resolve_jars(f"spring-kafka-{SPRING_KAFKA_VERSION}", [spring])


@pytest.fixture
def reply_topic(settings: Settings) -> str:
    name = f"{settings.topic_prefix}shop-replies"
    # Kept: what it was asked fails with the client, which goes with its last name.
    admin = AdminClient(client_options(settings))
    admin.create_topics([NewTopic(name, 3, 1)])[name].result()
    return name


def ask(jars: Path, deployment: Deployment, reply_topic: str, partition: str, requests: list[Any]) -> dict[int, Any]:
    """Run the program: the decoded reply to each request, or None."""
    settings = deployment.settings
    file = settings.home / "requests.jsonl"
    file.write_bytes(b"\n".join(json.dumps(one).encode() for one in requests))
    arguments = [settings.kafka_bootstrap_servers, topic_name(settings, REQUESTS), reply_topic, partition, "120"]
    command = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*", str(PROGRAM), *arguments, str(file)]
    done = subprocess.run(command, env=foreign_environment(), capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
    lines = [line.split() for line in done.stdout.splitlines() if line[:1].isdigit()]
    return {
        int(number): None if told == "-" else events.decode_result(base64.b64decode(told)) for number, told in lines
    }


@pytest.mark.timeout(1_800)
def test_spring_gets_its_answers(jars: Path, deployment: Deployment, settings: Settings, reply_topic: str) -> None:
    """With a consumer group, and with a partition of its own; predictions and problems, each to its request."""
    deployment.worker(worker_reply_topics=json.dumps([f"{settings.topic_prefix}*-replies"]))
    deployment.serving(1)
    rows = [dict(one) for one in deployment.diamonds(COUNT)]
    for row in rows[::BAD]:
        row["carat"] = -1
    for partition in ("any", "1"):
        requests = [
            {"request_id": f"spring-{partition}-{number}", "model": "diamonds", "features": row}
            for number, row in enumerate(rows)
        ]
        replies = ask(jars, deployment, reply_topic, partition, requests)
        assert set(replies) == set(range(COUNT))
        for number, reply in replies.items():
            assert reply is not None, f"no reply to request {number}"
            assert reply.request_id == f"spring-{partition}-{number}"
            assert isinstance(reply, events.PredictionFailed if number % BAD == 0 else events.PredictionCompleted)
    deployment.settles()
    found = run_audit(settings, index=False)
    assert found.passed, found
    assert found.accepted == found.completed + found.failed == 2 * COUNT

"""`inflight trace` on a real broker and Elasticsearch, behind processes that really run."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer
from msgspec import Raw

from inflight.settings import Settings
from machine_learning_engineering.events.schemas import LabelReported, encode
from machine_learning_engineering.events.topics import LABELS, REQUESTS
from machine_learning_engineering.kafka.client import producer_options, topic_name
from tests.support.deployment import Deployment

DIAMOND = {
    "carat": 0.23,
    "cut": "Ideal",
    "color": "E",
    "clarity": "SI2",
    "depth": 61.5,
    "table": 55.0,
    "x": 3.95,
    "y": 3.98,
    "z": 2.43,
}


def publish(settings: Settings, name: str, value: bytes | None = None, topic: str = REQUESTS, **fields: Any) -> None:
    """A request for a diamond, with other fields or another value; all in one partition, so in order."""
    request = {"request_id": name, "model": "diamonds", "features": DIAMOND}
    producer = Producer(producer_options(settings))
    content = value if value is not None else msgspec.json.encode(request | fields)
    producer.produce(topic_name(settings, topic), content, name, partition=1)
    assert producer.flush(30) == 0


def run(settings: Settings, *arguments: str) -> tuple[int, str, str]:
    environment = {
        **os.environ,
        "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "INFLIGHT_ELASTICSEARCH_URL": settings.elasticsearch_url,
        "INFLIGHT_TOPIC_PREFIX": settings.topic_prefix,
        "INFLIGHT_HOME": str(settings.home),
    }
    command = [sys.executable, "-m", "inflight.cli", "trace", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    return done.returncode, done.stdout, done.stderr


def traced(settings: Settings, name: str, *options: str) -> dict[str, Any]:
    code, out, err = run(settings, name, "--json", *options)
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def stages(found: dict[str, Any]) -> list[str]:
    return [step["stage"] for step in found["steps"]]


@pytest.mark.usefixtures("search")
def test_the_path_of_requests_with_every_outcome(deployment: Deployment) -> None:
    """Completed, duplicated, failed, dead-lettered and unanswered."""
    settings = deployment.settings
    # All tests of a session share Elasticsearch: ids are of this test.
    good, twice, bad, dead, waiting = (
        settings.topic_prefix + name for name in ("good", "twice", "bad", "dead", "wait")
    )
    publish(settings, good)
    publish(settings, twice)
    publish(settings, twice)
    publish(settings, twice, features=DIAMOND | {"carat": 0.5})
    publish(settings, bad, features={"carat": "heavy"})
    publish(settings, dead, b"a diamond, please")
    worker, indexer = deployment.worker(), deployment.indexer()
    deployment.settles(index=True)
    deployment.stop(worker)
    publish(settings, waiting)
    publish(settings, good, encode(LabelReported(good, "diamonds", Raw(b"326"), datetime.now(UTC))), LABELS)

    completed = traced(settings, good)
    assert sorted(stages(completed)) == ["label", "log", "request", "result"]
    assert stages(completed)[0] == "request"
    request, log = (step for step in completed["steps"] if step["stage"] in ("request", "log"))
    assert request["position"] == [REQUESTS, 1, 0]
    assert log["origin"] == request["position"]
    assert log["details"]["outcome"] == "completed"
    assert log["details"]["total_seconds"] > 0
    (document,) = completed["documents"]
    assert (document["id"], document["details"]["outcome"]) == (good, "completed")
    (missing,) = completed["missing"]
    assert "label not in the document yet: the label joiner has committed nothing" in missing
    assert "Ideal" not in json.dumps(completed)
    values = traced(settings, good, "--values")
    assert next(step for step in values["steps"] if step["stage"] == "request")["details"]["features"] == DIAMOND
    assert values["documents"][0]["details"]["prediction"].keys() == {"price"}

    repeated = traced(settings, twice)
    requests = [step for step in repeated["steps"] if step["stage"] == "request"]
    assert [step["repeat"] for step in requests] == [None, "equal", "different"]
    assert stages(repeated).count("result") == stages(repeated).count("log") == 3
    (conflict,) = (step for step in repeated["steps"] if step["stage"] == "dead_letter")
    assert (conflict["details"]["reason"], conflict["origin"][0]) == ("conflicting_duplicate", "prediction-logs")
    assert (len(repeated["documents"]), repeated["missing"]) == (1, [])

    failed = traced(settings, bad)
    result = next(step for step in failed["steps"] if step["stage"] == "result")
    assert (result["details"]["outcome"], result["details"]["error_type"]) == ("failed", "invalid_features")
    assert failed["documents"][0]["details"]["outcome"] == "failed"
    assert failed["missing"] == []

    lettered = traced(settings, dead)
    assert stages(lettered) == ["request", "dead_letter"]
    letter = lettered["steps"][1]
    assert (letter["details"]["reason"], letter["origin"]) == ("not_json", lettered["steps"][0]["position"])
    assert (lettered["documents"], lettered["missing"]) == ([], [])
    code, text, _ = run(settings, dead)
    assert code == 0
    assert f"inflight dlq show {letter['details']['address']}" in text

    unanswered = traced(settings, waiting)
    assert stages(unanswered) == ["request"]
    (missing,) = unanswered["missing"]
    assert missing.startswith("no outcome yet: the worker has committed offset 6 of partition 1")
    assert "0 records are ahead" in missing
    deployment.stop(indexer)


def test_a_time_to_begin_at_and_a_request_that_is_nowhere(settings: Settings) -> None:
    """Code 1, and without Elasticsearch the topics all the same."""
    name = settings.topic_prefix + "early"
    publish(settings, name)
    without = settings.model_copy(update={"elasticsearch_url": "http://127.0.0.1:1"})
    found = traced(without, name)
    assert stages(found) == ["request"]
    assert any(reason.startswith("document unknown: Elasticsearch did not respond") for reason in found["missing"])
    assert stages(traced(without, name, "--since", "1h")) == ["request"]
    code, out, err = run(without, name, "--since", "2100-01-01")
    assert (code, out) == (1, "")
    assert f"no topic and no index has a request '{name}'" in err


def test_without_a_broker_it_ends_at_once_with_2(settings: Settings) -> None:
    """In one line that says what to do."""
    code, out, err = run(settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"}), "any")
    assert (code, out) == (2, "")
    assert "inflight up" in err.splitlines()[-1]


def test_an_uncommitted_worker_is_named(settings: Settings) -> None:
    """The group has never committed: no worker has run yet."""
    name = settings.topic_prefix + "first"
    publish(settings, name)
    (missing, *_) = traced(settings, name)["missing"]
    assert "the worker has committed nothing of partition 1" in missing

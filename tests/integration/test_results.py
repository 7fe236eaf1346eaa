"""`inflight results` on a real topic."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Producer
from msgspec import Raw

from inflight.settings import Settings
from machine_learning_engineering.events.schemas import Error, PredictionCompleted, PredictionFailed, encode
from machine_learning_engineering.events.topics import RESULTS
from machine_learning_engineering.kafka.client import producer_options, topic_name

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
REASON = "feature `z` is missing\x1b[31m"


@pytest.fixture
def answered(settings: Settings) -> Settings:
    """Thirty answers of two models over all partitions, the last one a refusal; and a record that is none."""
    producer = Producer(producer_options(settings))
    for number in range(30):
        at = NOW + timedelta(seconds=number)
        name, model = f"r-{number}", "diamonds" if number % 3 else "titanic"
        event: PredictionCompleted | PredictionFailed = PredictionCompleted(
            name, model, "v1", Raw(b'{"price":%d}' % number), at, at
        )
        if number == 29:
            event = PredictionFailed(name, model, Error("invalid_features", REASON), at, at)
        partition = number % settings.topic_partitions
        producer.produce(topic_name(settings, RESULTS), encode(event), name, partition=partition)
    producer.produce(topic_name(settings, RESULTS), b"\xff", partition=0)
    assert producer.flush(30) == 0
    return settings


def run(settings: Settings, *arguments: str) -> tuple[int, str, str]:
    environment = {
        **os.environ,
        "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "INFLIGHT_TOPIC_PREFIX": settings.topic_prefix,
        "INFLIGHT_HOME": str(settings.home),
        "COLUMNS": "200",
    }
    command = [sys.executable, "-m", "inflight.cli", "results", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    return done.returncode, done.stdout, done.stderr


def shown(settings: Settings, *arguments: str) -> list[dict[str, Any]]:
    code, out, _ = run(settings, *arguments, "--json")
    found: list[dict[str, Any]] = json.loads(out)["results"]
    assert code == (0 if found else 1)
    return found


def test_the_newest_come_last(answered: Settings) -> None:
    """Of all partitions; a refusal is an answer too."""
    found = shown(answered, "--limit", "7")
    assert [one["request_id"] for one in found] == [f"r-{number}" for number in range(23, 30)]
    assert found[0]["prediction"] == {"price": 23}
    assert found[-1]["error"] == {"type": "invalid_features", "message": REASON}


def test_they_are_chosen_by_model_outcome_and_id(answered: Settings) -> None:
    """All of the topic is looked through for them."""
    assert [one["request_id"] for one in shown(answered, "titanic")] == [f"r-{number}" for number in range(0, 30, 3)]
    assert [one["request_id"] for one in shown(answered, "--failed")] == ["r-29"]
    assert [one["request_id"] for one in shown(answered, "--id", "r-4", "--id", "r-2")] == ["r-2", "r-4"]
    assert shown(answered, "iris") == []


def test_people_get_a_table(answered: Settings) -> None:
    """With reasons, whose control characters do not reach the terminal; and a word on what is no result."""
    code, out, err = run(answered, "diamonds", "--limit", "2")
    assert code == 0
    assert "r-28" in out
    assert '{"price":28}' in out
    assert "invalid_features: feature `z` is missing" in out
    assert "\x1b" not in out
    assert "2 results of 20 that match" in err
    assert "1 records on the topic are not results" in err


def test_without_a_broker_it_says_what_to_do(settings: Settings) -> None:
    """In one line."""
    code, out, err = run(settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"}))
    assert (code, out) == (2, "")
    assert "inflight up" in err.splitlines()[-1]

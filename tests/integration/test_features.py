"""The feature store is filled from the stream, and labelled requests become training data by themselves."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from msgspec import Raw
from prometheus_client import CollectorRegistry

from inflight.settings import Settings
from machine_learning_engineering.events.schemas import LabelReported, PredictionLogged, encode
from machine_learning_engineering.events.topics import LABELS, LOGS
from machine_learning_engineering.feature_store import examples as feature_store_log
from machine_learning_engineering.feature_store.store import FeatureStore
from machine_learning_engineering.kafka.client import consumer_options, producer_options, topic_name
from model.catalog import available
from monitoring.feature_ingest.metrics import FeatureMetrics
from monitoring.feature_ingest.process import Follower
from monitoring.runtime.groups import FEATURES
from tests.support.waiting import until

ACCEPTED = datetime(2026, 1, 5, 12, tzinfo=UTC)
KILLED = Path(__file__).parents[1] / "support" / "programs" / "killed_features.py"
STONE = {"carat": 0.5, "cut": "Ideal", "color": "E", "clarity": "SI1", "depth": 61.5, "table": 55.0, "x": 5.1, "y": 5.1}


def logged(number: int, model: str = "diamonds") -> PredictionLogged:
    """A request of the `number`-th second, for a stone that tells its number."""
    at = ACCEPTED + timedelta(seconds=number)
    features = Raw(json.dumps(STONE | {"z": 3.0 + number / 1_000}).encode())
    return PredictionLogged(f"r-{number}", model, "completed", features, at, at, at, 0.0, 0.0, 0.0, 1, 0, number)


def label(number: int, value: Any) -> LabelReported:
    at = ACCEPTED + timedelta(days=2, seconds=number)
    return LabelReported(f"r-{number}", "diamonds", Raw(json.dumps(value).encode()), at)


def publish(settings: Settings, topic: str, records: list[bytes]) -> None:
    """Publish, acknowledged, over all partitions."""
    producer = Producer(producer_options(settings))
    for record in records:
        producer.produce(topic_name(settings, topic), record)
    assert producer.flush(30) == 0


@pytest.fixture
def environment(settings: Settings, tmp_path: Path) -> dict[str, str]:
    given = {
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "TOPIC_PREFIX": settings.topic_prefix,
        "HOME": str(tmp_path / "home"),
        "KAFKA_IDLE_PAUSE": str(settings.kafka_idle_pause),
        "KAFKA_SESSION_TIMEOUT": "6",
        "FEATURES_METRICS_PORT": "0",
    }
    return os.environ | {f"INFLIGHT_{name}": value for name, value in given.items()}


@contextmanager
def following(environment: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """`inflight features follow`, killed at the end if it still runs."""
    command = [sys.executable, "-m", "inflight.cli", "features", "follow", "diamonds", "--every", "0.3", "--json"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def examples(tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    path = tmp_path / "home/features/examples/diamonds/examples.jsonl"
    return lambda: [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_labelled_requests_become_training_data_by_themselves(
    settings: Settings, environment: dict[str, str], tmp_path: Path
) -> None:
    """Labels before their requests, twice, corrected, and of a request never seen; the process is killed in between."""
    read = examples(tmp_path)
    publish(settings, LABELS, [encode(label(number, 1_000.0 + number)) for number in range(50)] + [b"not a label"])
    with following(environment) as process:
        publish(settings, LOGS, [encode(logged(number)) for number in range(100)] + [encode(logged(1, "emeralds"))])
        until(lambda: len(read()) == 50, 300, "labels that came first meet their requests")
        process.send_signal(signal.SIGKILL)
        process.wait()
    publish(settings, LOGS, [encode(logged(number)) for number in range(100, 200)])
    with following(environment) as process:
        late = [encode(label(number, 1_000.0 + number)) for number in range(50, 200)]
        corrected = encode(LabelReported("r-7", "diamonds", Raw(b"7.5"), ACCEPTED + timedelta(days=9)))
        publish(settings, LABELS, [*late, *late, corrected, encode(label(999, 1.0)), encode(label(8, "dear"))])
        until(lambda: len(read()) == 200 and read()[-1]["label"] == 7.5, 300, "every labelled request is an example")
        process.send_signal(signal.SIGTERM)
        followed = json.loads(process.communicate(timeout=120)[0])
        assert process.returncode == 0
    found = {one["request_id"]: one for one in read()}
    assert len(found) == 200
    for number in range(200):
        one = found[f"r-{number}"]
        assert one["label"] == (7.5 if number == 7 else 1_000.0 + number)
        assert one["features"]["z"] == 3.0 + number / 1_000
    (built,) = followed["models"]
    assert built["unmatched"] == 1
    assert built["refused_labels"] == 1


def test_what_was_kept_before_a_kill_becomes_training_data(
    settings: Settings, environment: dict[str, str], tmp_path: Path
) -> None:
    """Killed after the store has the rows and before the examples are written; nothing new comes afterwards."""
    read = examples(tmp_path)
    publish(settings, LOGS, [encode(logged(number)) for number in range(50)])
    publish(settings, LABELS, [encode(label(number, 1_000.0 + number)) for number in range(50)])
    killed = subprocess.run([sys.executable, KILLED, "50"], env=environment, timeout=300, stdout=subprocess.DEVNULL)
    assert killed.returncode == -signal.SIGKILL
    with FeatureStore(tmp_path / "home/features") as store:
        assert {one.view: one.rows for one in store.summaries()} == {"diamonds": 50, "diamonds.labels": 50}
    assert len(read()) < 50
    with following(environment):
        until(lambda: len(read()) == 50, 300, "the successor writes what the store knows")


def test_a_backlog_that_is_kept_in_pages_becomes_training_data(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each record fills a page here, so that there is never anything left to keep; not even when it stops."""
    monkeypatch.setattr(feature_store_log, "_PAGE", 1)
    read = examples(tmp_path)
    stopping = threading.Event()
    with FeatureStore(tmp_path / "home/features") as store:
        follower = Follower(settings, store, {"diamonds": available()["diamonds"]}, store.path / "examples", every=0.2)
        running = threading.Thread(target=follower.run, args=[stopping])
        running.start()
        try:
            # The second time the process has written its first examples already.
            for known in (10, 20):
                publish(settings, LOGS, [encode(logged(number)) for number in range(known - 10, known)])
                publish(settings, LABELS, [encode(label(number, 1.0)) for number in range(known - 10, known)])
                until(lambda known=known: len(read()) == known, 120, f"{known} labelled requests are examples")  # type: ignore[misc]
        finally:
            stopping.set()
            running.join()


def test_partitions_that_were_paused_when_they_were_revoked_are_read_again(settings: Settings, tmp_path: Path) -> None:
    """Another process comes and goes while this one pauses at the end of the topics; and what is read is counted."""
    registry, stopping = CollectorRegistry(), threading.Event()
    with FeatureStore(tmp_path / "home/features") as store:
        follower = Follower(
            settings.model_copy(update={"kafka_idle_pause": 0.0}),
            store,
            {"diamonds": available()["diamonds"]},
            store.path / "examples",
            every=0.2,
            metrics=FeatureMetrics(registry),
        )
        consumer = follower._consumer
        running = threading.Thread(target=follower.run, args=[stopping])
        running.start()
        partitions = 2 * settings.topic_partitions
        try:
            until(lambda: len(consumer.assignment()) == partitions, 120, "it has all partitions")
            consumer.pause(consumer.assignment())
            other = Consumer(consumer_options(settings, FEATURES))
            other.subscribe([topic_name(settings, topic) for topic in (LOGS, LABELS)])
            until(lambda: not other.consume(1, 0.1) and other.assignment(), 120, "another one has some")
            other.close()
            until(lambda: len(consumer.assignment()) == partitions, 120, "it has all partitions again")
            publish(settings, LOGS, [encode(logged(number)) for number in range(40)])

            def read() -> float | None:
                return registry.get_sample_value("inflight_features_records_total", {"result": "request"})

            until(lambda: read() == 40, 60, "everything is read")
        finally:
            stopping.set()
            running.join()

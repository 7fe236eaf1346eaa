"""Metrics from the topics, as Prometheus scrapes them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from msgspec import Raw
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from inflight.settings import Settings
from machine_learning_engineering.dead_letters.letter import DeadLetterOrigin, dead_letter_headers
from machine_learning_engineering.events.schemas import Error, PredictionLogged, encode
from machine_learning_engineering.events.topics import DEAD_LETTERS, LOGS, REQUESTS
from machine_learning_engineering.kafka.client import consumer_options, producer_options, topic_name
from monitoring.exporter.lag import LagReader
from monitoring.exporter.metrics import ExporterMetrics
from monitoring.exporter.observer import Observer
from monitoring.exporter.process import Exporter
from monitoring.runtime.groups import EXPORTER, INDEXER, READS

ACCEPTED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def _log(number: int, **fields: Any) -> PredictionLogged:
    known: dict[str, Any] = {
        "request_id": f"r{number}",
        "model": "diamonds",
        "outcome": "failed" if "error" in fields else "completed",
        "features": Raw(b"{}"),
        "requested_at": ACCEPTED,
        "accepted_at": ACCEPTED,
        "completed_at": ACCEPTED,
        "queue_seconds": 0.001,
        "score_seconds": 0.002,
        "total_seconds": 0.003,
        "batch_size": 1,
        "partition": 0,
        "offset": 0,
        "model_version": "1",
        "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01",
    }
    return PredictionLogged(**{**known, **fields})


def _publish(settings: Settings, *logs: PredictionLogged | bytes, letters: int = 0) -> None:
    producer = Producer(producer_options(settings))
    for log in logs:
        producer.produce(topic_name(settings, LOGS), log if isinstance(log, bytes) else encode(log))
    headers = dead_letter_headers(DeadLetterOrigin("malformed-request", "m", "decode", "t", 0, 0), None)
    for _ in range(letters):
        producer.produce(topic_name(settings, DEAD_LETTERS), b"x", headers=headers)
    assert producer.flush(120) == 0


def _eventually(condition: Callable[[], Any], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.05)


@contextmanager
def _running(settings: Settings) -> Iterator[CollectorRegistry]:
    """An exporter in a thread of this process."""
    registry, stopping = CollectorRegistry(), threading.Event()
    exporter = Exporter(settings, Observer(ExporterMetrics(registry)))
    thread = threading.Thread(target=exporter.run, args=(stopping,))
    thread.start()
    try:
        yield registry
    finally:
        stopping.set()
        thread.join(300)
    assert not thread.is_alive()


def _completed(registry: CollectorRegistry) -> float:
    labels = {"model": "diamonds", "model_version": "1", "outcome": "completed"}
    return registry.get_sample_value("inflight_predictions_total", labels) or 0.0


def test_it_goes_on_where_it_was(settings: Settings) -> None:
    """A restart begins with counters at zero and counts what is new, and nothing again."""
    _publish(settings, *[_log(number) for number in range(300)])
    with _running(settings) as first:
        _eventually(lambda: _completed(first) == 300)
    _publish(settings, *[_log(number) for number in range(300, 350)], b"poison")
    with _running(settings) as second:
        _eventually(lambda: second.get_sample_value("inflight_exporter_unreadable_records_total") == 1)
        _eventually(lambda: _completed(second) >= 50)
        assert _completed(second) == 50
    assert LagReader(settings).read()[EXPORTER, LOGS] == 0


def _lags(reader: LagReader) -> dict[tuple[str, str], int] | None:
    try:
        return reader.read()
    except KafkaException:
        return None


def test_the_lag_is_what_a_group_has_not_committed(settings: Settings) -> None:
    """Of each group that reads a topic; a group that never committed lags by the whole topic."""
    _publish(settings, *[_log(number) for number in range(30)], letters=4)
    producer = Producer(producer_options(settings))
    producer.produce(topic_name(settings, REQUESTS), b"x")
    assert producer.flush(120) == 0
    reader = LagReader(settings)
    behind = {REQUESTS: 1, LOGS: 30, DEAD_LETTERS: 4}
    expected = {(group, topic): behind.get(topic, 0) for group, topics in READS.items() for topic in topics}
    # A broker that has just started makes its coordinators when it is first asked for them.
    _eventually(lambda: _lags(reader) == expected)
    consumer = Consumer(consumer_options(settings, INDEXER))
    name = topic_name(settings, LOGS)
    ends = [consumer.get_watermark_offsets(TopicPartition(name, p))[1] for p in range(settings.topic_partitions)]
    fullest = ends.index(max(ends))
    consumer.commit(offsets=[TopicPartition(name, fullest, ends[fullest] - 1)], asynchronous=False)
    consumer.close()
    assert reader.read() == {**expected, (INDEXER, LOGS): 30 - ends[fullest] + 1}


@pytest.fixture
def process(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """The exporter as a process of its own, on a free port."""
    environment = {
        **os.environ,
        "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "INFLIGHT_TOPIC_PREFIX": settings.topic_prefix,
        "INFLIGHT_HOME": str(settings.home),
        "INFLIGHT_EXPORTER_METRICS_PORT": "0",
    }
    arguments = [sys.executable, "-m", "inflight.cli", "exporter"]
    with subprocess.Popen(arguments, env=environment, stderr=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


def test_prometheus_finds_everything_at_the_address_that_is_printed(
    settings: Settings, process: subprocess.Popen[str]
) -> None:
    """Counts, latencies with an exemplar, dead letters and lag; then it ends on SIGTERM with exit code 0."""
    failed = _log(9, error=Error("unknown_model", "no model of this name"), model="nonsense")
    _publish(settings, _log(1), _log(2), failed, letters=3)
    assert process.stderr is not None
    line = json.loads(process.stderr.readline())
    assert (line["service.name"], line["event.action"]) == ("inflight-exporter", "started")

    def scrape() -> str:
        accept = {"accept": "application/openmetrics-text; version=1.0.0"}
        with urllib.request.urlopen(
            urllib.request.Request(line["inflight.metrics"], headers=accept), timeout=60
        ) as answer:
            assert answer.headers["content-type"].startswith("application/openmetrics-text")
            text: str = answer.read().decode()
            return text

    def samples() -> dict[tuple[str, frozenset[tuple[str, str]]], Any]:
        families = text_string_to_metric_families(scrape())
        return {(each.name, frozenset(each.labels.items())): each for family in families for each in family.samples}

    def value(name: str, **labels: str) -> float | None:
        found = samples().get((name, frozenset(labels.items())))
        return None if found is None else found.value

    letters = {"reason": "malformed-request", "stage": "decode"}
    _eventually(lambda: value("inflight_dead_letters_total", **letters) == 3)
    _eventually(
        lambda: value("inflight_predictions_total", model="diamonds", model_version="1", outcome="completed") == 2
    )
    _eventually(lambda: value("inflight_prediction_errors_total", model="unknown", type="unknown_model") == 1)
    assert value("inflight_prediction_latency_seconds_count", model="diamonds", stage="total") == 2
    _eventually(lambda: value("inflight_consumer_lag_records", group=INDEXER, topic=LOGS) == 3)
    _eventually(lambda: value("inflight_consumer_lag_records", group=EXPORTER, topic=LOGS) == 0)
    exemplars = [each.exemplar for each in samples().values() if each.exemplar is not None]
    assert {exemplar.labels["trace_id"] for exemplar in exemplars} == {TRACE}
    assert "nonsense" not in scrape()
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) == 0

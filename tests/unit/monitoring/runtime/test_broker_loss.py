"""Clients of the monitoring processes that librdkafka has left without a broker."""

import contextlib
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer
from prometheus_client import CollectorRegistry

import monitoring
from inflight.settings import Settings
from machine_learning_engineering.dead_letters.writer import DeadLetterWriter, RejectedRecord
from machine_learning_engineering.events.schemas import QualityMeasured
from machine_learning_engineering.kafka.broker_check import NoBrokersLeftError
from monitoring.exporter.collector import LagCollector
from monitoring.exporter.lag import LagReader
from monitoring.exporter.metrics import ExporterMetrics
from monitoring.quality import measurement
from monitoring.runtime.consumer import group_options
from tests.unit.monitoring.conftest import ACCEPTED, Record


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Of a broker that does not exist."""
    return Settings(_env_file=None, home=tmp_path, kafka_bootstrap_servers="127.0.0.1:1", kafka_delivery_timeout=0.3)


def consume_until_it_raises(consumer: Consumer) -> None:
    for _ in range(600):
        consumer.consume(1, 0.1)


def test_a_group_consumer_raises_it_while_it_consumes(settings: Settings) -> None:
    """The process ends then, and its supervisor starts another one."""
    options = {**group_options(settings, "g"), "statistics.interval.ms": 50}
    # Without bootstrap servers, librdkafka knows no broker from the start.
    del options["bootstrap.servers"]
    consumer = Consumer(options)
    consumer.subscribe(["t"])
    with pytest.raises(NoBrokersLeftError):
        consume_until_it_raises(consumer)
    # Closing polls too, and may get the next statistics.
    with contextlib.suppress(NoBrokersLeftError):
        consumer.close()


def test_each_client_has_a_check_of_its_own(settings: Settings) -> None:
    """A check counts the statistics of one client."""
    assert group_options(settings, "g")["stats_cb"] is not group_options(settings, "g")["stats_cb"]


def test_every_group_consumer_of_a_process_is_checked() -> None:
    """Whoever subscribes takes its options from the one place."""
    sources = [path.read_text() for path in Path(monitoring.__path__[0]).rglob("*.py")]
    subscribing = [source for source in sources if re.search(r"\.subscribe\((?!\))", source)]
    assert len(subscribing) == 5
    assert all("group_options(settings" in source for source in subscribing)


def test_dead_letters_that_are_not_acknowledged_are_sent_by_a_new_client(settings: Settings) -> None:
    """The old one may never connect again. Several threads write, and each gets its own reports."""
    writer = DeadLetterWriter(settings)
    first = writer._producer
    record: Any = Record(b"x")
    record.key = lambda: None
    rejected = [RejectedRecord(record, "index_rejected", "")]
    with ThreadPoolExecutor(4) as threads:
        retried = [threads.submit(writer._attempt, rejected, threading.Event()) for _ in range(4)]
        assert all(future.result(60) == rejected for future in retried)
    assert writer._producer is not first


def test_a_measurement_that_is_not_acknowledged_is_sent_by_a_new_client(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is measured again at the next interval."""
    monkeypatch.setattr(measurement, "_PUBLISH_SECONDS", 0.1)
    publisher = measurement.Publisher(settings.model_copy(update={"kafka_delivery_timeout": 60.0}))
    first = publisher._producer
    event = QualityMeasured(
        model="m",
        model_version="v1",
        measured_at=ACCEPTED,
        window_start=ACCEPTED,
        window_end=ACCEPTED,
        rows=1,
        confidence=0.95,
        metrics=[],
    )
    with pytest.raises(TimeoutError):
        publisher(event)
    assert publisher._producer is not first


def test_lag_that_can_not_be_read_is_read_by_new_clients(settings: Settings) -> None:
    """Nothing polls these clients, so that nothing else would detect it."""
    stopping, reader = threading.Event(), LagReader(settings, timeout=0.1)
    before = list(reader._consumers.values())
    connect = reader._connect

    def connect_and_stop() -> None:
        connect()
        stopping.set()

    reader._connect = connect_and_stop  # type: ignore[method-assign]
    collector = LagCollector(reader, ExporterMetrics(CollectorRegistry()), stopping, 0.01)
    collector.start()
    collector.join(60)
    assert not collector.is_alive()
    assert not any(consumer in before for consumer in reader._consumers.values())

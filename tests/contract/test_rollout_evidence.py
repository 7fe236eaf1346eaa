"""The collector over every kind of broker: what it reads, from where, and again."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Producer
from msgspec import structs

from inflight.settings import Settings
from machine_learning_engineering.events.schemas import LabelReported, PredictionLogged, encode
from machine_learning_engineering.events.topics import LABELS, LOGS, SHADOWS
from machine_learning_engineering.kafka.client import create_topics, producer_options, topic_name
from machine_learning_engineering.rollout.record import Rollout
from monitoring.rollout_evidence.collector import Collector
from tests.support.rollout_records import SHADOW, NumberLosses, label, logged, shadowed
from tests.support.waiting import until

_REQUESTS = 300


@pytest.fixture
def stage(each_broker: Any, settings: Settings) -> Rollout:
    """A stage that begins now."""
    create_topics(settings)
    return structs.replace(SHADOW, stage_at=datetime.now(UTC) - timedelta(milliseconds=1))


def publish(settings: Settings, events: list[Any]) -> None:
    producer = Producer(producer_options(settings))
    for event in events:
        topic = SHADOWS
        if isinstance(event, PredictionLogged | LabelReported):
            topic = LOGS if isinstance(event, PredictionLogged) else LABELS
        producer.produce(topic_name(settings, topic), encode(event), event.request_id.encode())
    assert producer.flush(30) == 0


def read(collector: Collector, records: int) -> int:
    found = 0

    def step() -> bool:
        nonlocal found
        found += collector.poll(0.1)
        return found >= records and collector.is_caught_up

    until(step, 60, "the records are read")
    return found


def test_it_reads_a_stage_from_its_start_and_again(settings: Settings, stage: Rollout) -> None:
    def ago(event: Any) -> Any:
        return structs.replace(event, observed_at=datetime.now(UTC) + timedelta(seconds=1))

    past = structs.replace(stage, stage_at=stage.stage_at - timedelta(seconds=_REQUESTS + 100))
    # As if the requests had come in the minutes before: a label is observed when it is written.
    events = [label(past, n, 12.0) for n in range(_REQUESTS)]
    publish(settings, [ago(event) for event in events])
    publish(settings, [shadowed(past, n, 10.0, 11.0) for n in range(_REQUESTS)])
    publish(settings, [logged(past, n, answer=10.0) for n in range(_REQUESTS)])
    now = datetime.now(UTC)
    collector = Collector(settings, stage, NumberLosses())
    try:
        read(collector, 3 * _REQUESTS)
        found = collector.evidence(now)
        assert (found.champion.requests, found.challenger.requests) == (_REQUESTS, _REQUESTS)
        assert (found.pairs.labelled, found.pairs.better, found.labels_unknown) == (_REQUESTS, _REQUESTS, 0)
        # New records, one of them repeated, and a label for nothing.
        publish(settings, [logged(past, n, answer=10.0) for n in (0, _REQUESTS)])
        publish(settings, [ago(label(past, 9_999, 1.0))])
        read(collector, 3)
        after = collector.evidence(now)
        assert (after.champion.requests, after.labels_unknown) == (_REQUESTS + 1, 1)
        assert after.pairs == found.pairs
    finally:
        collector.close()
    again = Collector(settings, stage, NumberLosses())
    try:
        assert again.evidence(now).champion.requests == 0
        read(again, 3 * _REQUESTS + 3)
        assert again.evidence(now) == after
    finally:
        again.close()


def test_it_begins_with_the_stage(settings: Settings, stage: Rollout) -> None:
    publish(settings, [logged(stage, n) for n in range(20)])
    later = structs.replace(stage, stage_at=datetime.now(UTC) + timedelta(minutes=1))
    collector = Collector(settings, later, NumberLosses())
    try:
        until(lambda: collector.poll(0.1) == 0 and collector.is_caught_up, 60, "it has caught up")
        assert collector.evidence(datetime.now(UTC)).champion.requests == 0
        # What comes now is read on, whatever its time: another clock may be behind.
        publish(settings, [logged(stage, 20)])
        assert read(collector, 1) == 1
        assert collector.evidence(datetime.now(UTC)).champion.requests == 1
    finally:
        collector.close()

"""Drift, quality, dead letters and model events: from their topics into the index, on each kind of node."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Producer
from msgspec import UNSET, structs

from inflight.settings import Settings
from machine_learning_engineering.dead_letters.letter import DeadLetterOrigin, dead_letter_headers
from machine_learning_engineering.events.schemas import (
    DriftDetected,
    DriftMeasured,
    FieldDrift,
    LiveMetric,
    ModelPromoted,
    QualityMeasured,
)
from machine_learning_engineering.events.topics import DEAD_LETTERS, LOGS, MEASUREMENTS, MODEL_EVENTS, SHADOWS
from machine_learning_engineering.kafka.client import producer_options, read_to_end, topic_name
from monitoring.audit.readers import run_audit
from monitoring.elastic import client as elastic
from monitoring.elastic import scan
from tests.support import rollout_records
from tests.support.indexing import eventually, indexer, lag, letters, log, publish

START = datetime(2026, 3, 1, 23, 0, tzinfo=UTC)
END = START + timedelta(hours=2)


def _drift(settings: Settings, window: int, fields: int = 3, **changes: Any) -> DriftMeasured:
    """A window; the model's name is the test's own, since all tests of a session share Elasticsearch."""
    found = [
        FieldDrift(f"features.f{n}", "feature", "ks", 0.4, 1e-9, 1e-8, n == 0, 0.0, 0.1, 0.2, 0.0)
        for n in range(fields)
    ]
    known = {
        "model": f"{settings.topic_prefix}diamonds",
        "model_version": "v3",
        "window_id": f"w{window}",
        "window_start": START,
        "window_end": END,
        "closed_by": "count",
        "rows": 1_000,
        "significance": 0.05,
        "min_psi": 0.1,
        "fields": found,
    }
    return DriftMeasured(**{**known, **changes})


def _quality(settings: Settings, minutes: int = 0) -> QualityMeasured:
    metrics = [LiveMetric("rmse", 560.0, 540.0, 580.0, 550.0), LiveMetric("r2", 0.9, 0.8, 0.95)]
    at = END + timedelta(minutes=minutes)
    return QualityMeasured(f"{settings.topic_prefix}diamonds", "v3", at, START, END, 400, 0.95, metrics)


def _sources(settings: Settings, family: str, term: str = "inflight.model.name") -> list[Any]:
    """The documents of the test in a family."""
    value = settings.topic_prefix + ("diamonds" if term == "inflight.model.name" else "prediction-logs")
    client = elastic.connect(settings)
    try:
        elastic.request(client, "POST", f"/inference-{family}-*/_refresh")
        query = {"size": 1_000, "query": {"term": {term: value}}}
        return [hit["_source"] for hit in scan.hits(client, f"inference-{family}-*", query)]
    finally:
        client.close()


def test_measurements_become_documents_once(settings: Settings, each_search: Any) -> None:
    """Of each field and each metric; measured again, or read again, nothing is added."""
    measured = [_drift(settings, window) for window in range(20)]
    publish(settings, *measured, _quality(settings), _quality(settings, 5), topic=MEASUREMENTS)
    with indexer(settings) as running:
        eventually(lambda: running.results(MEASUREMENTS)["created"] == 64)
        # The window as another process would measure it: the first one stays.
        publish(settings, _drift(settings, 3, rows=7), *measured[:5], topic=MEASUREMENTS)
        eventually(lambda: running.results(MEASUREMENTS)["replayed"] == 18)
        assert running.results(MEASUREMENTS) == {"created": 64, "replayed": 18}
    drift, quality = (
        [source["inflight"][family] for source in _sources(settings, family)] for family in ("drift", "quality")
    )
    assert Counter(source["window"]["id"] for source in drift) == {f"w{window}": 3 for window in range(20)}
    assert {source["rows"] for source in drift} == {1_000}
    assert sum(source["drifted"] for source in drift) == 20
    assert sorted(source["metric"] for source in quality) == ["r2", "r2", "rmse", "rmse"]
    assert (letters(settings), lag(settings, MEASUREMENTS)) == ([], 0)


def test_model_events_become_documents(settings: Settings, each_search: Any) -> None:
    """PromotionListener and drifts, of which a compacted topic may also hold tombstones."""
    model = f"{settings.topic_prefix}diamonds"
    detected = DriftDetected(model, "v3", "w1", END, START, END, 1_000, 0.05, _drift(settings, 1).fields)
    publish(settings, ModelPromoted(model, "v3", END, "better", "v2"), detected, topic=MODEL_EVENTS)
    producer = Producer(producer_options(settings))
    producer.produce(topic_name(settings, MODEL_EVENTS), None, model)
    assert producer.flush(120) == 0
    with indexer(settings) as running:
        eventually(lambda: lag(settings, MODEL_EVENTS) == 0)
        assert running.results(MODEL_EVENTS) == {"created": 2}
    found = {
        source["event"]["action"]: source["inflight"]["model_event"] for source in _sources(settings, "model-events")
    }
    assert found == {
        "model_promoted": {"reason": "better", "previous_version": "v2"},
        "drift_detected": {"rows": 1_000, "window_id": "w1", "fields": [f"features.f{n}" for n in range(3)]},
    }


def test_shadows_become_documents_once(settings: Settings, each_search: Any) -> None:
    """However often they are read; the log has the arm of the request."""
    model = f"{settings.topic_prefix}diamonds"
    rollout = structs.replace(rollout_records.SHADOW, model=model, rollout_id=model, stage_at=START)
    events = [rollout_records.shadowed(rollout, number, 10.0, 10.0 + number) for number in range(3)]
    nothing: Any = {"outcome": "dropped", "shadow_prediction": UNSET, "shadow_seconds": UNSET}
    dropped = rollout_records.shadowed(rollout, 3, 10.0, 0.0, **nothing)
    logged = rollout_records.logged(rollout, 1, request_id=f"{settings.topic_prefix}1")
    publish(settings, *events, *events, dropped, topic=SHADOWS)
    publish(settings, logged, topic=LOGS)
    with indexer(settings) as running:
        eventually(lambda: running.results(SHADOWS).total() == 7 and running.results(LOGS).total() == 1)
        assert running.results(SHADOWS) == {"created": 4, "replayed": 3}
    found = {one["inflight"]["request_id"]: one["inflight"]["shadow"] for one in _sources(settings, "shadows")}
    assert len(found) == 4
    assert {name: found["q-2"][name] for name in ("value", "shadow_value", "distance", "different", "role")} == {
        "value": 10.0,
        "shadow_value": 12.0,
        "distance": 2.0,
        "different": True,
        "role": "challenger",
    }
    assert (found["q-0"]["different"], found["q-3"]["outcome"]) == (False, "dropped")
    assert "different" not in found["q-3"]
    (document,) = _sources(settings, "logs")
    arm = {"id": model, "arm": "champion", "champion": "v1", "challenger": "v2", "percent": 0, "salt": "pepper"}
    assert document["inflight"]["rollout"] == arm
    assert letters(settings) == []


def test_a_record_that_is_no_event_is_set_aside_once_and_seen(settings: Settings, each_search: Any) -> None:
    """Its dead letter is a document itself, and no outcome of a request to the audit."""
    refused = _drift(settings, 1, rows=2**70)
    publish(settings, b"poison", refused, topic=MEASUREMENTS)
    publish(settings, b"poison", topic=MODEL_EVENTS)
    publish(settings, b"poison", log(settings, 1), topic=LOGS)
    with indexer(settings) as running:
        eventually(lambda: running.results(DEAD_LETTERS).total() == 4 and running.results().total() == 2)
        assert running.results(DEAD_LETTERS) == {"created": 4}
        # Each of its three documents is refused; the record is one dead letter.
        assert running.results(MEASUREMENTS) == {"undecodable_measurement": 1, "index_rejected": 3}
        assert running.results(MODEL_EVENTS) == {"undecodable_model_event": 1}
        assert running.results() == {"undecodable_log": 1, "created": 1}
    reasons = Counter(
        (origin.topic.removeprefix(settings.topic_prefix), origin.reason) for origin, _ in letters(settings)
    )
    assert reasons == {
        (MEASUREMENTS, "undecodable_measurement"): 1,
        (MEASUREMENTS, "index_rejected"): 1,
        (MODEL_EVENTS, "undecodable_model_event"): 1,
        (LOGS, "undecodable_log"): 1,
    }
    assert [lag(settings, topic) for topic in (LOGS, MEASUREMENTS, MODEL_EVENTS, DEAD_LETTERS)] == [0, 0, 0, 0]
    assert run_audit(settings, settings.topic_prefix).index_dead_letters == 1
    (document,) = _sources(settings, "dead-letters", "inflight.dead_letter.topic")
    assert document["inflight"]["dead_letter"]["reason"] == "undecodable_log"
    assert "poison" not in str(document)


def test_a_record_among_the_dead_letters_that_is_none_is_passed_over(
    settings: Settings, each_search: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would come back for ever as a dead letter; it is counted, told of, and what is around it is indexed."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "machine_learning_engineering.dead_letters.writer.log_event", lambda *_what, **fields: told.append(fields)
    )
    producer = Producer(producer_options(settings))
    topic = topic_name(settings, DEAD_LETTERS)
    for number in range(3):
        origin = DeadLetterOrigin(
            "malformed-request", "no JSON", "decode", settings.topic_prefix + LOGS, 10**17, number
        )
        producer.produce(topic, b"payload", headers=dead_letter_headers(origin, None), partition=0)
        producer.produce(topic, b"nobody's", partition=0)
    assert producer.flush(120) == 0
    with indexer(settings) as running:
        eventually(lambda: lag(settings, DEAD_LETTERS) == 0)
        assert running.results(DEAD_LETTERS) == {"created": 3, "undecodable_dead_letter": 3}
    assert [fields["offset"] for fields in told] == [1, 3, 5]
    assert len(list(read_to_end(settings, DEAD_LETTERS))) == 6

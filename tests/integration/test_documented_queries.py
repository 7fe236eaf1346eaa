"""The queries that docs/elasticsearch.md gives run as they stand, and answer with rows."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from elasticsearch import Elasticsearch

from inflight.settings import Settings
from inflight.stack.embedded import EmbeddedNode
from machine_learning_engineering.dead_letters.letter import DeadLetterOrigin, dead_letter_headers
from machine_learning_engineering.events.schemas import DriftMeasured, Error, FieldDrift, LiveMetric, QualityMeasured
from machine_learning_engineering.events.topics import DEAD_LETTERS, MEASUREMENTS
from machine_learning_engineering.kafka.client import producer_options, topic_name
from monitoring.elastic import client as elastic
from tests.support.indexing import eventually, indexer, log, publish

PAGE = Path(__file__).parents[2] / "docs/elasticsearch.md"
QUERIES = re.findall(r"^```\n(FROM .*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def _fill(settings: Settings) -> None:
    """A document of each kind, of this moment."""
    now = datetime.now(UTC)
    start = now - timedelta(minutes=1)
    request = {"request_id": "request-17", "accepted_at": now}
    publish(
        settings, log(settings, 1, **request), log(settings, 2, accepted_at=now, error=Error("unknown_model", "no"))
    )
    drift = FieldDrift("features.carat", "feature", "ks", 0.4, 1e-9, 1e-8, True, 0.0, 0.1, 0.2, 0.0)
    quality = LiveMetric("rmse", 560.0, 540.0, 580.0, 550.0)
    publish(
        settings,
        DriftMeasured("diamonds", "1", "w", start, now, "count", 9, 0.05, 0.1, [drift]),
        QualityMeasured("diamonds", "1", now, start, now, 9, 0.95, [quality]),
        topic=MEASUREMENTS,
    )
    producer = Producer(producer_options(settings))
    headers = dead_letter_headers(DeadLetterOrigin("malformed-request", "no JSON", "decode", "t", 0, 0), None)
    producer.produce(topic_name(settings, DEAD_LETTERS), b"x", headers=headers)
    assert producer.flush(30) == 0


def _answer(client: Elasticsearch, query: str) -> Any:
    # Without a limit Elasticsearch sets one, with a warning.
    return elastic.request(client, "POST", "/_query", {"query": query + "| LIMIT 1000"})


def test_the_documented_queries_run(settings: Settings, search: Any) -> None:
    """On the real node: the embedded one has no ES|QL."""
    if isinstance(search, EmbeddedNode):
        pytest.skip("the embedded node has no ES|QL")
    assert len(QUERIES) >= 5
    _fill(settings)
    with indexer(settings) as running, elastic.connect(settings) as client:
        eventually(
            lambda: (
                running.results()["created"] == running.results(MEASUREMENTS)["created"] == 2
                and running.results(DEAD_LETTERS)["created"] == 1
            )
        )
        elastic.request(client, "POST", "/inference-*/_refresh")
        for query in QUERIES:
            found = _answer(client, query)
            assert found["values"], query
            assert len(found["columns"]) >= 3, query

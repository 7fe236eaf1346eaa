"""Old indices are deleted, on each kind of Elasticsearch node, and nothing else is."""

import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from elasticsearch import Elasticsearch
from prometheus_client import CollectorRegistry

from inflight.settings import Settings
from monitoring.elastic import bulk, templates
from monitoring.elastic import client as elastic
from monitoring.indexer.metrics import IndexerMetrics
from monitoring.indexer.retention import Retention, delete_expired
from tests.support.indexing import eventually

LONG_AGO = date(1999, 12, 30)
KEPT = (
    "inference-logs-1999.12.20-copy",
    "inference-logs-1999.12.32",
    "inference-logs-1999.10",
    "inference-drift-1999.13",
    "inference-others-1999.12.20",
)


@pytest.fixture
def client(settings: Settings, each_search: Any) -> Iterator[Elasticsearch]:
    with elastic.connect(settings) as connected:
        templates.put_templates(connected, settings)
        yield connected
        for name in _of_1999(connected):
            elastic.request(connected, "DELETE", f"/{name}")


def _make(client: Elasticsearch, *names: str) -> None:
    actions = [bulk.action("create", name, "1") + b'\n{"event":{"kind":"event"}}' for name in names]
    assert [item.status for item in bulk.bulk(client, actions)] == [201] * len(names)


def _of_1999(client: Elasticsearch) -> set[str]:
    return {name for name in elastic.index_names(client, "inference-*", "all") if "-1999." in name}


def test_only_what_is_over_and_ours_is_deleted(client: Elasticsearch) -> None:
    """By its day, whatever else is in the cluster; and a second call finds nothing to do."""
    old = {f"inference-logs-1999.12.2{day}" for day in (1, 2)}
    old |= {f"inference-{family}-1999.11" for family in ("drift", "dead-letters")}
    young = {"inference-logs-1999.12.23", "inference-quality-1999.12"}
    _make(client, *old, *young, *KEPT)
    assert {name for name, _ in delete_expired(client, LONG_AGO, 7)} == old
    assert _of_1999(client) == young | set(KEPT)
    assert delete_expired(client, LONG_AGO, 7) == []


def test_nothing_is_deleted_unless_it_is_asked_for(client: Elasticsearch) -> None:
    """With 0 days, documents are kept forever."""
    _make(client, "inference-logs-1999.12.01")
    assert delete_expired(client, LONG_AGO, 0) == []
    assert _of_1999(client) == {"inference-logs-1999.12.01"}


def test_closed_and_hidden_indices_are_deleted_too(client: Elasticsearch) -> None:
    """Old data has to go, whatever somebody did to its index."""
    _make(client, "inference-logs-1999.12.01", "inference-logs-1999.12.02")
    elastic.request(client, "POST", "/inference-logs-1999.12.01/_close")
    elastic.request(client, "PUT", "/inference-logs-1999.12.03", {"settings": {"index.hidden": True}})
    assert len(delete_expired(client, LONG_AGO, 7)) == 3
    assert _of_1999(client) == set()


def test_an_index_that_can_not_be_deleted_keeps_no_other(client: Elasticsearch) -> None:
    """It is told, and tried again an hour later."""
    _make(client, "inference-logs-1999.12.01", "inference-logs-1999.12.02")
    elastic.request(client, "PUT", "/inference-logs-1999.12.01/_settings", {"index.blocks.read_only": True})
    told: list[str] = []
    deleted = delete_expired(client, LONG_AGO, 7, lambda name, _error: told.append(name))
    elastic.request(client, "PUT", "/inference-logs-1999.12.01/_settings", {"index.blocks.read_only": None})
    assert deleted == [("inference-logs-1999.12.02", "logs")]
    assert told == ["inference-logs-1999.12.01"]


def test_a_family_without_an_index_gets_one(client: Elasticsearch, settings: Settings) -> None:
    """After its last one was deleted: ES|QL rejects a query on none."""
    for name in elastic.index_names(client, "inference-drift-*"):
        elastic.request(client, "DELETE", f"/{name}")
    _make(client, "inference-drift-1999.10")
    stopping = threading.Event()
    thread = Retention(settings, client, IndexerMetrics(CollectorRegistry()), stopping)
    thread.start()
    current = f"inference-drift-{datetime.now(UTC):%Y.%m}"
    eventually(lambda: elastic.index_names(client, "inference-drift-*") == [current])
    stopping.set()
    thread.join(120)
    assert not thread.is_alive()


def test_the_indexer_deletes_counts_and_ends(client: Elasticsearch, settings: Settings) -> None:
    """At its start, of the days by today's clock."""
    days = (datetime.now(UTC).date() - date(1999, 12, 10)).days - 1
    _make(client, "inference-logs-1999.12.09", "inference-logs-1999.12.25")
    registry, stopping = CollectorRegistry(), threading.Event()
    kept = settings.model_copy(update={"elasticsearch_retention_days": days})
    thread = Retention(kept, client, IndexerMetrics(registry), stopping)
    thread.start()
    deleted = "inflight_indexer_deleted_indices_total"
    eventually(lambda: registry.get_sample_value(deleted, {"family": "logs"}) == 1)
    assert _of_1999(client) == {"inference-logs-1999.12.25"}
    stopping.set()
    thread.join(timedelta(minutes=2).total_seconds())
    assert not thread.is_alive()


def test_a_search_node_that_is_away_does_not_end_it(settings: Settings) -> None:
    """It says so and waits for the next hour."""
    away = settings.model_copy(update={"elasticsearch_url": "http://127.0.0.1:9", "elasticsearch_retention_days": 1})
    stopping = threading.Event()
    with elastic.connect(away, timeout=1) as client:
        thread = Retention(away, client, IndexerMetrics(CollectorRegistry()), stopping)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        stopping.set()
        thread.join(120)
    assert not thread.is_alive()

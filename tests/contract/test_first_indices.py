"""Dashboards can query an Elasticsearch on which nothing was indexed yet."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from elasticsearch import Elasticsearch

from inflight.settings import Settings
from monitoring.documents.common import FAMILIES
from monitoring.elastic import bulk, templates
from monitoring.elastic import client as elastic

NOW = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)


@pytest.fixture
def client(settings: Settings, each_search: Any) -> Iterator[Elasticsearch]:
    """A node without any index of ours, before and after."""
    with elastic.connect(settings) as connected:
        _clear(connected)
        templates.put_templates(connected, settings)
        yield connected
        _clear(connected)


def _clear(client: Elasticsearch) -> None:
    for name in elastic.index_names(client, "inference-*"):
        elastic.request(client, "DELETE", f"/{elastic.quote_path(name)}")


def _require_esql(search: Any) -> None:
    if type(search).__name__ != "ElasticsearchNode":
        pytest.skip("no ES|QL on the embedded node")


def test_each_family_gets_an_index_with_its_mapping_unless_it_has_one(client: Elasticsearch) -> None:
    """And a second call changes nothing."""
    action = bulk.action("create", "inference-quality-2026.02", "1")
    assert bulk.bulk(client, [action + b'\n{"event":{"kind":"metric"}}'])[0].status == 201
    templates.create_first_indices(client, NOW)
    templates.create_first_indices(client, NOW)
    months = {
        f"inference-{family}-2026.03" for family in FAMILIES if family not in ("logs", "api", "shadows", "quality")
    }
    expected = months | {
        "inference-logs-2026.03.01",
        "inference-api-2026.03.01",
        "inference-shadows-2026.03.01",
        "inference-quality-2026.02",
    }
    assert set(elastic.index_names(client, "inference-*")) == expected
    mapping = elastic.request(client, "GET", "/inference-drift-2026.03/_mapping")
    properties = mapping["inference-drift-2026.03"]["mappings"]["properties"]
    assert properties["inflight"]["properties"]["drift"]["properties"]["psi"]["type"] == "double"


def test_an_esql_query_finds_nothing_where_it_was_refused_before(client: Elasticsearch, each_search: Any) -> None:
    """On the real node; the embedded one has no ES|QL."""
    _require_esql(each_search)
    query = {"query": "FROM inference-drift-* | STATS worst = MAX(inflight.drift.psi) | LIMIT 1"}
    with pytest.raises(Exception, match="Unknown index"):
        elastic.request(client, "POST", "/_query", query)
    templates.create_first_indices(client, NOW)
    assert elastic.request(client, "POST", "/_query", query)["values"] == [[None]]


@pytest.mark.parametrize(("pattern", "priority"), [("*", 500), ("inference-logs-*", 201), ("inference-drift*", 200)])
def test_a_template_that_would_win_is_named(
    client: Elasticsearch, settings: Settings, pattern: str, priority: int
) -> None:
    """With its priority: it would make our indices, and Elasticsearch guess their mappings."""
    for name in ("inference-logs", "inference-drift"):
        elastic.request(client, "DELETE", f"/_index_template/{name}")
    body = {"index_patterns": [pattern], "priority": priority, "template": {}}
    elastic.request(client, "PUT", "/_index_template/foreign", body)
    try:
        with pytest.raises(templates.ForeignTemplate, match=rf"'foreign' with priority {priority} "):
            templates.put_templates(client, settings)
    finally:
        elastic.request(client, "DELETE", "/_index_template/foreign")
        templates.put_templates(client, settings)


def test_a_template_that_loses_is_no_matter(client: Elasticsearch, settings: Settings) -> None:
    """Nor is one of other indices, whatever its priority."""
    for name, pattern, priority in (("low", "*", 100), ("other", "logs-*", 500)):
        body = {"index_patterns": [pattern], "priority": priority, "template": {}}
        elastic.request(client, "PUT", f"/_index_template/{name}", body)
    try:
        templates.put_templates(client, settings)
    finally:
        for name in ("low", "other"):
            elastic.request(client, "DELETE", f"/_index_template/{name}")


def test_shards_are_counted(client: Elasticsearch) -> None:
    """Of the whole cluster, and what it takes of them."""
    before, limit = elastic.count_shards(client)
    templates.create_first_indices(client, NOW)
    assert elastic.count_shards(client) == (before + len(FAMILIES), limit)
    assert limit >= 1_000


def test_a_count_with_a_list_of_values_does_not_end_the_node(client: Elasticsearch, each_search: Any) -> None:
    """ES|QL compiles the list for each type that it knows, versions among them: their class has to be there."""
    _require_esql(each_search)
    query = {"query": 'ROW outcome = "failed" | STATS n = COUNT(*) WHERE outcome IN ("failed", "rejected") | LIMIT 1'}
    assert elastic.request(client, "POST", "/_query", query)["values"] == [[1]]

"""Elasticsearch is unavailable or too busy, or the indexer is killed: every document is there afterwards, once."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from elasticsearch import ApiError, TransportError

from inflight.stack.embedded import EmbeddedNode
from machine_learning_engineering.events.topics import MEBIBYTE
from monitoring.elastic import client as elastic
from tests.support.deployment import UNTIL_STOPPED, Deployment
from tests.support.doses import FULL
from tests.support.durability import needs_durable_nodes
from tests.support.waiting import figures, until

pytestmark = pytest.mark.usefixtures("search")

AWAY_SECONDS = 60 if FULL else 16
RATE = 300 if FULL else 150
REQUESTS = 20_000 if FULL else 12_000
STARTS_IN = 15
"""Seconds from the start of Elasticsearch until it answers, about."""


def _with_failures(deployment: Deployment, count: int) -> Iterator[dict[str, Any]]:
    """So many requests, of which every tenth is one that the model does not understand."""
    return ({"carat": "?"} if number % 10 == 0 else row for number, row in enumerate(deployment.diamonds(count)))


@needs_durable_nodes
def test_a_search_node_that_is_away_costs_no_document(deployment: Deployment, search: Any) -> None:
    """Killed for a quarter of a minute (a minute in the full dose) under load: the indexer waits in bounded memory."""
    deployment.worker()
    indexer = deployment.indexer()
    deployment.serving(1)
    prefix = deployment.settings.topic_prefix
    load = deployment.load(_with_failures(deployment, UNTIL_STOPPED), rate=RATE, prefix=prefix)
    load.reaches(600)
    until(lambda: indexer.metric("inflight_indexer_documents_total") > 500, 300, "the indexer indexes")
    before, largest, stopped = indexer.rss(), 0, time.monotonic()
    search.kill()

    def over() -> bool:
        nonlocal largest
        largest = max(largest, indexer.rss())
        return time.monotonic() - stopped >= AWAY_SECONDS - STARTS_IN

    until(over, AWAY_SECONDS + 120, "it is time to start the node again")
    assert deployment.lag()[1] > 0
    search.start()
    outage, behind, up = time.monotonic() - stopped, deployment.lag()[1], time.monotonic()
    until(lambda: deployment.lag()[1] < behind / 2, 300, "half of the lag is gone, under load")
    half = time.monotonic() - up
    largest = max(largest, indexer.rss())
    load.stop()
    report = load.report()
    deployment.settles(index=True)
    found = deployment.verify(report, repeats=False, prefix=prefix, index=True)
    assert indexer.exit_codes == []
    assert found.failed >= report.accepted // 10
    assert found.indexed_distinct == found.accepted
    assert largest - before < 128 * MEBIBYTE
    figures(
        outage=f"{outage:.0f} s",
        documents=found.indexed_distinct,
        behind=behind,
        half_caught_up=f"{half:.1f} s",
        growth=f"{max(0, largest - before) / MEBIBYTE:.0f} MiB",
    )


def _until_it_is_taken(call: Callable[[], object]) -> None:
    """The node refuses anything while its breaker is open, and what is not put back troubles every later test."""

    def taken() -> bool:
        with suppress(ApiError, TransportError):
            call()
            return True
        return False

    until(taken, 120, "the node takes the change back")


@contextmanager
def _breaking(client: Any) -> Iterator[None]:
    """Elasticsearch answers 429 to every request of more than a few documents: its circuit breaker is open."""
    name = "network.breaker.inflight_requests.limit"
    elastic.request(client, "PUT", "/_cluster/settings", {"persistent": {name: "2kb"}})
    try:
        yield
    finally:
        _until_it_is_taken(lambda: elastic.request(client, "PUT", "/_cluster/settings", {"persistent": {name: None}}))


@contextmanager
def _blocking(client: Any) -> Iterator[None]:
    """Elasticsearch answers 200, and 429 to each document: the indices are blocked as on a disk that is full."""
    name = "index.blocks.read_only_allow_delete"
    elastic.request(client, "PUT", "/inference-logs-*/_settings", {name: True})
    try:
        yield
    finally:
        _until_it_is_taken(lambda: elastic.request(client, "PUT", "/inference-logs-*/_settings", {name: None}))


def test_storms_of_429_cost_no_document(deployment: Deployment, search: Any) -> None:
    """A real node that refuses whole requests, and single documents, again and again under load with failures in it."""
    if isinstance(search, EmbeddedNode):
        pytest.skip("the embedded node has no circuit breaker and no blocks")
    deployment.worker()
    indexer = deployment.indexer(elasticsearch_batch_records=200)
    deployment.serving(1)
    prefix = deployment.settings.topic_prefix
    load = deployment.load(_with_failures(deployment, UNTIL_STOPPED), rate=RATE, prefix=prefix)
    load.reaches(400)
    until(lambda: indexer.metric("inflight_indexer_documents_total") > 300, 300, "the indexer indexes")
    storms = 8 if FULL else 2
    behind = []

    def refused() -> float:
        return indexer.metric("inflight_indexer_retries_total", cause="429")

    def created() -> float:
        return indexer.metric("inflight_indexer_documents_total", result="created")

    with elastic.connect(deployment.settings) as client:
        for number in range(storms):
            before = refused()
            with (_breaking, _blocking)[number % 2](client):
                until(lambda before=before: refused() >= before + 3, 300, "it is refused and tries again")
                behind.append(deployment.lag()[1])
            before = created()
            until(lambda before=before: created() >= before + 200, 300, "it goes on")
    load.stop()
    report = load.report()
    deployment.settles(index=True)
    found = deployment.verify(report, repeats=False, prefix=prefix, index=True)
    assert indexer.exit_codes == []
    assert found.failed >= report.accepted // 10
    assert found.indexed_distinct == found.accepted
    figures(
        storms=storms,
        documents=found.indexed_distinct,
        failures=found.failed,
        refused=int(refused()),
        most_behind=max(behind),
    )


def test_an_indexer_killed_in_the_middle_indexes_each_request_once(deployment: Deployment, search: Any) -> None:
    """kill -9, three times, while bulk requests are under way; it is started again at once."""
    deployment.worker()
    deployment.serving(1)
    prefix = deployment.settings.topic_prefix
    report = deployment.load(REQUESTS, prefix=prefix).report()
    deployment.settles()
    indexer = deployment.indexer(elasticsearch_batch_records=50)
    resumed = []
    for kills in range(1, 4):
        waiting = deployment.lag()[1]
        assert waiting, "the indexer was too quick: nothing waits any more"
        resumed.append(until(lambda waiting=waiting: deployment.lag()[1] < waiting - 200, 300, "documents are indexed"))
        # Two bulk requests of 50 are on their way to a node that is held; it will work them off when nobody listens.
        with _held(search):
            until(lambda: indexer.metric("inflight_indexer_in_flight_documents") >= 100, 120, "bulk requests are sent")
            deployment.kill(indexer)
            until(lambda kills=kills: len(indexer.exit_codes) == kills, 120, "it was killed")
    deployment.settles(index=True)
    found = deployment.verify(report, repeats=False, prefix=prefix, index=True)
    assert found.indexed_distinct == REQUESTS
    replayed = int(indexer.metric("inflight_indexer_documents_total", result="replayed"))
    assert replayed > 0, "no kill hit the middle of a bulk request"
    figures(
        kills=3,
        documents=found.indexed_distinct,
        found_already_indexed=replayed,
        resumed_after=[f"{seconds:.1f} s" for seconds in resumed],
    )


@contextmanager
def _held(search: Any) -> Iterator[None]:
    """Elasticsearch stands still: it is a launcher and a server, in a group of their own."""
    os.killpg(search.process_id.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(search.process_id.pid, signal.SIGCONT)

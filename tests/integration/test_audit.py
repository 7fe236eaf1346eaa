"""The oracle on real topics and a real index: what is missing or twice there is in its report."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from msgspec import Raw

from inflight.settings import Settings
from machine_learning_engineering.dead_letters.letter import DeadLetterOrigin, dead_letter_headers
from machine_learning_engineering.events.schemas import (
    Error,
    PredictionCompleted,
    PredictionFailed,
    PredictionLogged,
    encode,
)
from machine_learning_engineering.events.topics import DEAD_LETTERS, LOGS, REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import end_offsets, producer_options, read_to_end, topic_name
from monitoring.audit.readers import run_audit
from monitoring.documents.log import document_id, index_name, to_document
from monitoring.elastic import bulk, scan, templates
from monitoring.elastic import client as elastic

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Deployment:
    """Writes to topics and index what workers and an indexer would."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._producer = Producer(producer_options(settings))
        self._lines: list[bytes] = []

    def _write(self, topic: str, value: bytes, key: str | None = None, headers: Any = None) -> tuple[int, int]:
        written: list[tuple[int, int]] = []

        def on_delivery(error: Any, message: Any) -> None:
            assert error is None
            written.append((message.partition(), message.offset()))

        name = topic_name(self.settings, topic)
        self._producer.produce(name, value, key, headers=headers, on_delivery=on_delivery)
        assert self._producer.flush(30) == 0
        return written[0]

    def id(self, number: int | str) -> str:
        return f"{self.settings.topic_prefix}{number}"

    def ask(self, number: int | str, features: str = '{"a": 1}') -> tuple[int, int]:
        value = f'{{"request_id": "{self.id(number)}", "model": "m", "features": {features}}}'
        return self._write(REQUESTS, value.encode(), self.id(number))

    def ask_nonsense(self, value: bytes, key: str | None = None) -> tuple[int, int]:
        return self._write(REQUESTS, value, key)

    def complete(self, number: int | str, price: int = 5, later: float = 0.0) -> None:
        at = NOW + timedelta(seconds=later)
        result = PredictionCompleted(self.id(number), "m", "1", Raw(b'{"price":%d}' % price), NOW, at)
        self._write(RESULTS, encode(result), self.id(number))

    def fail(self, number: int | str) -> None:
        result = PredictionFailed(self.id(number), "m", Error("invalid_features", "no"), NOW, NOW)
        self._write(RESULTS, encode(result), self.id(number))

    def log(self, number: int | str, total_seconds: float = 0.01, *, index: bool = True, days: int = 0) -> None:
        log = PredictionLogged(
            request_id=self.id(number),
            model="m",
            outcome="completed",
            features=Raw(b'{"a":1}'),
            requested_at=NOW,
            accepted_at=NOW + timedelta(days=days),
            completed_at=NOW,
            queue_seconds=0.0,
            score_seconds=0.0,
            total_seconds=total_seconds,
            batch_size=1,
            partition=0,
            offset=0,
        )
        self._write(LOGS, encode(log), self.id(number))
        if index:
            action = bulk.action("create", index_name(log.accepted_at), document_id(log.request_id))
            self._lines.append(action + b"\n" + to_document(log))

    def set_aside(self, where: tuple[int, int], topic: str = REQUESTS, stage: str = "decode", **known: Any) -> None:
        origin = DeadLetterOrigin("reason", "message", stage, topic_name(self.settings, topic), *where, **known)
        self._write(DEAD_LETTERS, b"x", headers=dead_letter_headers(origin, None))

    def index(self) -> None:
        client = elastic.connect(self.settings)
        templates.put_templates(client, self.settings)
        assert {item.status for item in bulk.bulk(client, self._lines)} == {201}
        client.close()


@pytest.fixture
def deployment(settings: Settings) -> Iterator[Deployment]:
    return Deployment(settings)


def _trouble(deployment: Deployment) -> None:
    """Fifty requests that went well, and one of each kind of trouble."""
    for number in range(50):
        deployment.ask(number)
        deployment.complete(number)
        deployment.log(number, number / 1000)
    deployment.ask("failed")
    deployment.fail("failed")
    deployment.log("failed")
    for value, key in ((b"not json", None), (b"", "k"), (b"[" * 50_000, None), (b'{"request_id": 5}', None)):
        deployment.set_aside(deployment.ask_nonsense(value, key))
    deployment.ask("lost")
    deployment.ask_nonsense(b"lost too")
    deployment.complete(1, later=5.0)
    deployment.complete(2, price=6)
    deployment.complete("orphan")
    deployment.ask(3, '{"a": 2}')
    deployment.complete(3, price=7)
    deployment.ask(4, '{ "a":1 }')
    deployment.complete(4)
    deployment.ask("unindexed")
    deployment.complete("unindexed")
    deployment.log("unindexed", index=False)
    deployment.ask("refused")
    deployment.complete("refused")
    deployment.set_aside((0, 10**6), LOGS, "index", request_id=deployment.id("refused"))
    deployment.log(5, days=1)
    deployment.index()


def test_each_kind_of_trouble_is_counted(deployment: Deployment, each_search: Any) -> None:
    """On each kind of search node, read in pages that are smaller than the index."""
    _trouble(deployment)
    found = run_audit(deployment.settings, deployment.settings.topic_prefix)
    counts = {"lost": 1, "duplicates": 2, "repeats": 1, "conflicts": 1, "orphans": 1, "unindexed": 1}
    assert {name: getattr(found, name) for name in counts} == counts
    # With the prefix, what has no id is left out.
    assert (found.accepted, found.failed, found.dead_letters, found.index_dead_letters) == (56, 1, 0, 1)
    assert found.accepted == found.completed + found.failed + found.dead_letters + found.lost
    assert found.indexed_distinct == 51
    assert found.p50_ms is not None
    whole = run_audit(deployment.settings, index=False)
    assert (whole.accepted, whole.dead_letters, whole.lost, whole.indexed_distinct) == (61, 4, 2, None)


def test_the_index_is_read_page_by_page(
    deployment: Deployment, each_search: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No document is left out or read twice where a page ends."""
    monkeypatch.setattr(scan, "_PAGE", 7)
    for number in range(50):
        deployment.log(number, days=number % 3)
    deployment.index()
    client = elastic.connect(deployment.settings)
    ids = list(scan.indexed_ids(client, deployment.settings.topic_prefix))
    client.close()
    assert sorted(ids) == sorted(deployment.id(number) for number in range(50))


def _audit_command(settings: Settings, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ,
        "INFLIGHT_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "INFLIGHT_ELASTICSEARCH_URL": settings.elasticsearch_url,
        "INFLIGHT_TOPIC_PREFIX": settings.topic_prefix,
        "INFLIGHT_HOME": str(settings.home),
    }
    command = [sys.executable, "-m", "inflight.cli", "audit", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_the_command_fails_where_the_promise_was_broken(deployment: Deployment, search: Any) -> None:
    """And not before."""
    deployment.ask(1)
    deployment.complete(1)
    deployment.log(1)
    deployment.index()
    kept = _audit_command(deployment.settings, "--json", "--prefix", deployment.settings.topic_prefix)
    assert (kept.returncode, json.loads(kept.stdout)["lost"], json.loads(kept.stdout)["indexed_distinct"]) == (0, 0, 1)
    deployment.ask(2)
    broken = _audit_command(deployment.settings, "--no-index")
    assert broken.returncode == 1
    assert "BROKEN: 1 lost, 0 with two outcomes" in broken.stdout
    none = _audit_command(deployment.settings, "--no-index", "--prefix", "nobody-")
    assert (none.returncode, none.stderr) == (
        1,
        "error: there is no request whose id starts with nobody-: the audit shows nothing\n",
    )
    nowhere = deployment.settings.model_copy(update={"elasticsearch_url": "http://127.0.0.1:9"})
    away = _audit_command(nowhere)
    assert away.returncode == 2
    assert "INFLIGHT_ELASTICSEARCH_URL" in away.stderr


def _delete(settings: Settings, topic: str, share: float) -> int:
    """Delete the first records of each partition, as retention does; how many."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    name = topic_name(settings, topic)
    ends = {partition: round(high * share) for partition, (_, high) in end_offsets(settings, topic).items()}
    futures = admin.delete_records([TopicPartition(name, partition, end) for partition, end in ends.items()])
    for future in futures.values():
        future.result(30)
    return sum(ends.values())


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_outcomes_that_retention_took_are_not_lost(deployment: Deployment, share: float) -> None:
    """A part of the results, or all of them."""
    for number in range(40):
        deployment.ask(number)
        deployment.complete(number)
    deleted = _delete(deployment.settings, RESULTS, share)
    found = run_audit(deployment.settings, index=False)
    assert (found.lost, found.left_out, found.completed) == (0, deleted, 40 - deleted)
    assert found.passed


def test_requests_that_retention_took_leave_no_orphans(deployment: Deployment) -> None:
    """They had been answered."""
    for number in range(40):
        deployment.ask(number)
        deployment.complete(number)
    deleted = _delete(deployment.settings, REQUESTS, 0.5)
    found = run_audit(deployment.settings, index=False)
    assert (found.orphans, found.expired, found.accepted) == (0, 0, 40 - deleted)
    assert found.passed


def test_requests_that_retention_took_before_they_were_scored_are_told(deployment: Deployment) -> None:
    """They have no outcome, and the topic no longer shows them."""
    for number in range(40):
        deployment.ask(number)
    deleted = _delete(deployment.settings, REQUESTS, 0.5)
    left = [json.loads(record.value() or b"") for record in read_to_end(deployment.settings, REQUESTS)]
    for request in left:
        deployment.complete(request["request_id"].removeprefix(deployment.settings.topic_prefix))
    found = run_audit(deployment.settings, index=False)
    assert (found.accepted, found.completed, found.lost, found.expired) == (40 - deleted, 40 - deleted, 0, deleted)
    assert not found.passed

"""Labels on each kind of Elasticsearch node: found, written by compare-and-set, kept waiting, and measured by."""

import base64
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from elasticsearch import Elasticsearch
from msgspec import UNSET, Raw

from inflight.settings import Settings
from machine_learning_engineering.events.schemas import LabelReported, encode
from machine_learning_engineering.testing.log_store_examples import START, example, failed, fresh
from monitoring.elastic import bulk, scan
from monitoring.elastic import client as elastic
from monitoring.elastic.prediction_log import ElasticsearchPredictionLog
from monitoring.elastic.templates import put_templates
from monitoring.labels.pending import INDEX, PendingLabel, PendingLabels, StoredRecord
from monitoring.labels.reports import NEVER, Rank, Report, read
from monitoring.labels.store import LabelStore, LoggedRequest
from monitoring.model_version import ModelVersion
from monitoring.quality.rows import LabelledPredictions

SEEN = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
WRITTEN = SEEN.replace(hour=4, microsecond=678_000)


@pytest.fixture
def settings(each_search: Any, tmp_path: Path) -> Settings:
    # So few bytes make each bulk request several.
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        home=tmp_path,
        elasticsearch_url=each_search.url,
        elasticsearch_batch_bytes=500,
    )


@pytest.fixture
def client(settings: Settings) -> Iterator[Elasticsearch]:
    with elastic.connect(settings) as connected:
        yield connected


@pytest.fixture
def store(client: Elasticsearch, settings: Settings) -> LabelStore:
    found = LabelStore(client, settings)
    found.prepare()
    return found


@pytest.fixture
def model(client: Elasticsearch, settings: Settings) -> Iterator[str]:
    """A name of this test's own, with ten requests in the log; its documents are deleted after it."""
    name = fresh()
    with ElasticsearchPredictionLog(settings) as log:
        log.append([example(f"{name}-{n}", name, at=START + timedelta(seconds=n)) for n in range(9)])
        log.append([failed(f"{name}-9", name)])
    elastic.request(client, "POST", "/inference-logs-*/_refresh")
    yield name
    elastic.request(client, "POST", "/inference-logs-*/_refresh")
    found = scan.hits(client, "inference-logs-*", {"size": 1_000, "query": {"term": {"inflight.model.name": name}}})
    bulk.BulkSender(client, 10_000_000).delete([(hit["_index"], hit["_id"]) for hit in found])


@pytest.fixture
def waiting(client: Elasticsearch, settings: Settings) -> PendingLabels:
    """Those of a topic of the test's own."""
    put_templates(client, settings)
    return PendingLabels(client, settings, f"labels-{uuid.uuid4().hex}")


@pytest.fixture
def predictions(client: Elasticsearch) -> LabelledPredictions:
    return LabelledPredictions(client)


def report(
    request_id: str,
    model: str,
    label: Any = 2.5,
    offset: int = 0,
    topic: str = "t",
    at: datetime = SEEN,
    source: str | None = None,
) -> Report:
    event = LabelReported(request_id, model, Raw(msgspec.json.encode(label)), at)
    fields: dict[str, Any] = {
        "topic": topic,
        "partition": 3,
        "offset": offset,
        "key": "a2V5",
        "headers": [["h", "AAE="], ["n", None]],
    }
    if source is not None:
        fields["headers"] = [["h", "AAE="], ["ce_source", base64.b64encode(source.encode()).decode()]]
    fields["timestamp"] = [2, int(WRITTEN.timestamp() * 1000)]
    record = StoredRecord(fields)
    record.value = lambda: encode(event)  # type: ignore[method-assign]
    found = read(record)
    assert isinstance(found, Report)
    return found


def found_by_number(store: LabelStore, model: str) -> dict[int, LoggedRequest]:
    documents = store.find([f"{model}-{n}" for n in range(12)])
    return {int(one.request_id.removeprefix(f"{model}-")): one for one in documents}


def test_the_log_tells_who_reported_a_label(store: LabelStore, model: str, settings: Settings) -> None:
    """The source of the label that counts, and none for one that names none: not that of the label before."""
    sources = {0: "/shop", 1: None, 2: "x" * 1_000, 3: "/shop", 4: "/shop"}
    documents = found_by_number(store, model)
    store.write([(documents[n], report(f"{model}-{n}", model, source=source)) for n, source in sources.items()])
    again = store.reread([documents[3]])[0]
    assert again is not None
    store.write([(again, report(f"{model}-3", model, 3.5, at=SEEN + timedelta(seconds=1)))])
    with ElasticsearchPredictionLog(settings) as log:
        log.label(f"{model}-4", 4.5)
        found = {int(one.request_id.removeprefix(f"{model}-")): one.label_source for one in log.read(model)}
    assert [found[n] for n in range(6)] == ["/shop", UNSET, "x" * 256, UNSET, UNSET, UNSET]


def test_a_label_is_written_if_the_document_is_the_one_that_was_seen(store: LabelStore, model: str) -> None:
    """And the next one sees it, to the microsecond."""
    documents = found_by_number(store, model)
    assert documents.keys() == set(range(10))
    assert documents[4][4:] == (f"{model}-4", model, "v1", START + timedelta(seconds=4), None)
    written = store.write([(documents[n], report(f"{model}-{n}", model)) for n in range(10)])
    assert [one.status for one in written] == [200] * 10
    late = report(f"{model}-4", model, 3.5)
    assert [(one.status, one.error_type[:16]) for one in store.write([(documents[4], late)])] == [
        (409, "version_conflict")
    ]
    [again] = store.reread([documents[4]])
    assert again is not None
    assert again.held == Rank(SEEN, WRITTEN, "2.5")
    assert [one.status for one in store.write([(again, late)])] == [200]
    [last] = store.reread([documents[4]])
    assert last is not None
    assert last.held == Rank(SEEN, WRITTEN, "3.5")


def test_a_document_that_is_gone_is_no_error(client: Elasticsearch, store: LabelStore, model: str) -> None:
    """The answer is 404 or 409, and looking again tells."""
    document = found_by_number(store, model)[0]
    bulk.BulkSender(client, 10_000_000).delete([(document.index_name, document.id)])
    [written] = store.write([(document, report(f"{model}-0", model))])
    assert written.status in (404, 409)
    assert store.reread([document]) == [None]


def test_a_label_by_hand_is_seen_too(
    settings: Settings, store: LabelStore, predictions: LabelledPredictions, model: str
) -> None:
    """It counts as observed when it was set; one that was appended with its request is older than any."""
    before = datetime.now(UTC)
    with ElasticsearchPredictionLog(settings) as log:
        log.label(f"{model}-1", 2_757.0)
        log.append([example(f"{model}-10", model, label=Raw(b"1.5"))])
    predictions.refresh()
    documents = found_by_number(store, model)
    held = documents[1].held
    assert held is not None
    assert held.label == "2757.0"
    assert before <= held.observed_at <= datetime.now(UTC)
    assert documents[10].held == Rank(NEVER, NEVER, "1.5")
    assert {answer[2] for answer in predictions.rows(ModelVersion(model, "v1"), START, 100)} == {b"2757.0", b"1.5"}


def test_the_newest_labelled_answers_are_measured(
    store: LabelStore, predictions: LabelledPredictions, model: str
) -> None:
    """Neither failures nor what was accepted too long ago."""
    documents = found_by_number(store, model)
    store.write([(documents[n], report(f"{model}-{n}", model, n + 0.5)) for n in (0, 2, 3, 5, 8, 9)])
    predictions.refresh()
    version = ModelVersion(model, "v1")
    rows = predictions.rows(version, START + timedelta(seconds=2), 3)
    assert rows == [(START + timedelta(seconds=n), b'{"double":2.0}', b"%d.5" % n) for n in (8, 5, 3)]
    assert [label for _, _, label in predictions.rows(version, START, 100)] == [b"8.5", b"5.5", b"3.5", b"2.5", b"0.5"]
    assert predictions.rows(ModelVersion(model, "v2"), START, 100) == []
    assert version in predictions.versions(START)
    assert version not in predictions.versions(START + timedelta(days=1))


def test_waiting_labels_are_kept_as_they_were(client: Elasticsearch, waiting: PendingLabels) -> None:
    """Each once, however often it is read; found by partition and age, page by page."""
    now = datetime.now(UTC)
    topic = waiting._topic
    reports = [report(f"r{n}", "m", n, offset=n, topic=topic) for n in range(7)]
    assert [one.status for one in waiting.park(reports, now)] == [201] * 7
    assert [one.status for one in waiting.park([*reports[:2], report("r9", "m", 9, 9, topic)], now)] == [409, 409, 201]
    elastic.request(client, "POST", f"/{INDEX}/_refresh")
    assert (waiting.count([3]), waiting.count([2, 3]), waiting.count([2])) == (8, 8, 0)
    pages: list[list[PendingLabel]] = []
    after: list[Any] | None = None
    while page := waiting.page([1, 3], (-60, 60), now, after, 3):
        pages.append(page)
        after = page[-1].sort
    found = [one for page in pages for one in page]
    assert [len(page) for page in pages] == [3, 3, 2]
    assert [(one.report.request_id, one.report.label) for one in found] == [
        *((f"r{n}", str(n)) for n in range(7)),
        ("r9", "9"),
    ]
    first = found[0].report
    assert (first.record.topic(), first.record.partition(), first.record.offset()) == (topic, 3, 0)
    assert (first.record.key(), first.record.headers()) == (b"key", [("h", b"\x00\x01"), ("n", None)])
    assert first.record.value() == reports[0].record.value()
    assert first.record.timestamp() == (2, int(WRITTEN.timestamp() * 1000))
    assert abs(found[0].since - now) < timedelta(milliseconds=1)
    assert waiting.page([3], (60, 3_600), now, None, 3) == []
    assert len(waiting.page([3], (60, 3_600), now + timedelta(minutes=5), None, 100)) == 8
    assert waiting.remove(found[:2]) == [True, True]
    assert waiting.remove(found[:3]) == [False, False, True]
    elastic.request(client, "POST", f"/{INDEX}/_refresh")
    assert waiting.count([3]) == 5
    waiting.remove(found)


def test_waiting_before_there_is_anything_is_no_error(client: Elasticsearch, waiting: PendingLabels) -> None:
    """Nor after somebody deleted the index."""
    for name in elastic.index_names(client, f"{INDEX}*"):
        elastic.request(client, "DELETE", f"/{name}")
    now = datetime.now(UTC)
    assert waiting.count([0]) == 0
    assert waiting.page([0], (0, 60), now, None, 10) == []

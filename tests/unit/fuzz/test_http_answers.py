"""Answers over HTTP: of Elasticsearch, Kibana, Prometheus and metrics pages, or of what pretends to be one of them."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import hypothesis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from inflight.adapters.console import stored_story
from inflight.settings import Settings
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.prediction_log.store import PredictionLogError
from monitoring.dashboards.kibana import ImportResult, Kibana, KibanaError
from monitoring.documents.log import to_document
from monitoring.elastic import bulk, client, scan
from monitoring.elastic.client import UnexpectedResponse
from monitoring.elastic.prediction_log import ElasticsearchPredictionLog
from monitoring.exporter.metrics import ExporterMetrics
from monitoring.exporter.observer import Observer
from monitoring.indexer.delivery import _with_label
from monitoring.labels.pending import PendingLabels
from monitoring.labels.store import LabelStore
from monitoring.model_version import ModelVersion
from monitoring.quality.rows import LabelledPredictions
from monitoring.top import sources
from monitoring.top.samples import Window, parse
from monitoring.trace.readers import read_documents
from producers.gateway.console import story
from tests.support import fuzz_corpus as corpus
from tests.support.fuzzing import bounded, check_message, dose, mutated

DOORS = (
    "inflight/adapters/console.py:_json",
    "inflight/adapters/console.py:stored_story",
    "monitoring/elastic/bulk.py:bulk",
    "monitoring/elastic/prediction_log.py:ElasticsearchPredictionLog._record",
    "monitoring/elastic/prediction_log.py:_sent",
    "monitoring/indexer/delivery.py:_with_label",
    "monitoring/labels/pending.py:PendingLabels.page",
    "monitoring/labels/store.py:_utc",
    "monitoring/quality/rows.py:_row",
    "monitoring/dashboards/kibana.py:Kibana._state",
    "monitoring/dashboards/kibana.py:Kibana.import_objects",
    "monitoring/top/sources.py:Sources.alerts",
    "monitoring/top/samples.py:parse",
)
SETTINGS = Settings(_env_file=None)  # type: ignore[call-arg]
DEEP = b'{"a":' * 20_000
_TIME = corpus.NOW.isoformat()
_REPORT = {
    "topic": "prediction-labels", "partition": 0, "offset": 1, "key": None, "headers": [["ce_source", "dGlsbA=="]],
    "value": ""  # of a label
    "eyJyZXF1ZXN0X2lkIjoiciIsIm1vZGVsIjoiaG91c2VzIiwibGFiZWwiOjEsIm9ic2VydmVkX2F0IjoiMjAyNi0wMS0wMVQwMDowMDowMFoifQ==",
    "timestamp": [2, corpus.MILLISECONDS],
}  # fmt: skip
_INFLIGHT = {
    "request_id": "r", "model": {"name": "houses", "version": "v1"}, "outcome": "completed", "score_seconds": 0.1,
    "batch_size": 1, "fingerprint": "0", "features": {"area": 1.5}, "prediction": {"price": 3.5}, "label": "3.5",
    "label_observed_at": _TIME, "label_reported_at": _TIME, "redacted": ["owner"], "record": _REPORT,
}  # fmt: skip
_HIT = {
    "_index": "inference-logs-2026.01.01", "_id": "r", "_seq_no": 1, "_primary_term": 1, "found": True,
    "_source": {"@timestamp": _TIME, "inflight": _INFLIGHT}, "sort": [1, 2],
}  # fmt: skip
ANSWERS = tuple(
    msgspec.json.encode(answer)
    for answer in (
        {"items": [{"create": {"status": 201}}]},
        {"items": [{"create": {"status": 400, "error": {"type": "x", "reason": "field [a]", "caused_by": {}}}}]},
        {"timed_out": False, "_shards": {"failed": 0}, "hits": {"total": {"value": 1}, "hits": [_HIT]}},
        {"timed_out": False, "_shards": {"failed": 0}, "hits": {"hits": []}, "aggregations": {"models": {"buckets": [
            {"key": "houses", "versions": {"buckets": [{"key": "v1"}]}}]}}},
        {"docs": [_HIT]},
        {"indices": [{"name": "inference-logs-2026.01.01"}]},
        {"active_shards": 1, "initializing_shards": 0, "unassigned_shards": 0, "number_of_data_nodes": 1},
    )
)  # fmt: skip


class Node:
    """A client whose every request has the same answer."""

    def __init__(self, body: Any) -> None:
        self.body = body

    def perform_request(self, *_: Any, **__: Any) -> Any:
        return SimpleNamespace(body=self.body, meta=SimpleNamespace(status=200))


def _read(node: Any) -> list[Any]:
    now = corpus.NOW
    log = ElasticsearchPredictionLog(SETTINGS, client=node)
    documents = [("inference-logs-2026.01.01", "r")]
    return [
        lambda: [_checked(item) for item in bulk.bulk(node, [b"{}"])],
        lambda: bulk.BulkSender(node, 10_000_000).delete(documents),
        lambda: scan.search(node, "i", {}),
        lambda: scan.documents(node, documents),
        lambda: scan.stored_requests(node, documents),
        lambda: list(scan.indexed_ids(node)),
        lambda: client.index_names(node, "i"),
        lambda: client.count_shards(node),
        lambda: PendingLabels(node, SETTINGS, "prediction-labels").page([0], (0.0, 1e9), now, None, 5),
        lambda: PendingLabels(node, SETTINGS, "prediction-labels").count([0]),
        lambda: LabelStore(node, SETTINGS).find(["r"]),
        lambda: LabelledPredictions(node).versions(now - timedelta(days=1)),
        lambda: LabelledPredictions(node).rows(ModelVersion("houses", "v1"), now, 5),
        lambda: list(log.read("houses")),
    ]


def _checked(item: Any) -> None:
    assert isinstance(item.status, int)
    assert isinstance(item.error_type, str)
    for told in (bulk.describe_error(item.error), bulk.describe_refusal(item.error)):
        check_message(told, limit=5_000)


@dose(66)
@given(answer=mutated(ANSWERS))
@hypothesis.example(answer=b'{"items":[{"create":{"status":"201"}}]}')
@hypothesis.example(answer=b'{"items":[{"create":{"status":400,"error":"no"}}]}')
@hypothesis.example(answer=b'{"timed_out":false,"_shards":{"failed":0},"hits":{"hits":[{"_source":{}}]}}')
@hypothesis.example(answer=b'{"timed_out":false,"_shards":{"failed":0},"hits":{"hits":{"a":1}}}')
@hypothesis.example(answer=b'{"hits":{"hits":["a"]}}')
@hypothesis.example(answer=ANSWERS[2].replace(b'"features"', b'"geatures"'))
def test_elasticsearch(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        body: Any = msgspec.json.decode(answer)
    except (ValueError, RecursionError):
        # The transport refuses it, or hands over the text.
        body = answer.decode(errors="replace")
    node: Any = Node(body)
    # One page: an answer that is full again and again is no fault of its reader.
    monkeypatch.setattr(scan, "pages", lambda read, body: iter(read(body)))
    for read in _read(node):
        with bounded(len(answer)):
            try:
                read()
            except (UnexpectedResponse, PredictionLogError) as error:
                assert len(str(error)) < 2_000, str(error)[:300]
    monkeypatch.setattr(client, "connect", lambda *_, **__: _Context(node))
    found = read_documents(SETTINGS, "r", {"inference-logs-2026.01.01"})
    assert isinstance(found, str | list)


class _Context:
    def __init__(self, node: Any) -> None:
        self._node = node

    def __enter__(self) -> Any:
        return self._node

    def __exit__(self, *_: object) -> None:
        pass


@dose(20)
@given(fields=mutated([msgspec.json.encode(_INFLIGHT)]))
def test_a_label_is_kept_when_its_document_is_replaced(fields: bytes) -> None:
    try:
        found: Any = msgspec.json.decode(fields)
    except (ValueError, RecursionError):
        return
    if not isinstance(found, dict):
        return
    node: Any = Node({"docs": [{**_HIT, "_source": {"inflight": found}}]})
    try:
        [stored] = scan.stored_requests(node, [("i", "r")])
    except UnexpectedResponse:
        return
    assert stored is not None
    msgspec.json.decode(_with_label(b'{"inflight":{"request_id":"r"}}', stored.label))


@dose(20)
@given(source=mutated([to_document(one) for one in map(events.decode_log, corpus.LOGS)]))
def test_a_story_of_the_index(source: bytes) -> None:
    """A request with all of its types, or no document of ours."""
    try:
        found: Any = msgspec.json.decode(source)
    except (ValueError, RecursionError):
        return
    with bounded(len(source)):
        try:
            stored = stored_story(found)
        except ValueError as error:
            assert len(str(error)) < 2_000
            return
    msgspec.json.encode(story.of_log(stored.event))
    events.decode_log(events.encode(stored.event))


KIBANA = tuple(
    msgspec.json.encode(answer)
    for answer in (
        {"status": {"overall": {"level": "available"}}},
        {"successCount": 3, "errors": [{"type": "lens", "id": "x", "error": {"type": "missing_references",
         "references": [{"type": "index-pattern", "id": "i"}]}}]},
    )
)  # fmt: skip


@dose(33)
@given(answer=mutated(KIBANA), status=st.sampled_from([200, 200, 200, 401, 500]))
@hypothesis.example(answer=DEEP, status=200)
@hypothesis.example(answer=b'{"successCount":"\xff"}', status=200)
@hypothesis.example(answer=b'{"status":{"overall":{"level":[1]}}}', status=200)
@hypothesis.example(answer=b'{"successCount":[]}', status=200)
def test_kibana(answer: bytes, status: int) -> None:
    kibana: Any = object.__new__(Kibana)
    kibana.url, kibana._headers = "http://k", {}
    kibana._http = SimpleNamespace(request=lambda *_, **__: SimpleNamespace(status=status, data=answer))
    with bounded(len(answer)):
        for read in (kibana._state, lambda: kibana.import_objects(b"{}", "f")):
            try:
                found = read()
            except KibanaError as error:
                assert len(str(error)) < 1_000
                continue
            if isinstance(found, ImportResult):
                assert isinstance(found.count, int)
                assert all(isinstance(text, str) for one in found.rejected for text in msgspec.structs.astuple(one))
            else:
                assert isinstance(found, str)


ALERTS = (
    b'{"status":"success","data":{"alerts":[{"labels":{"alertname":"A","severity":"page"},"state":"firing",'
    b'"annotations":{"summary":"s"}}]}}',
)


@dose(33)
@given(answer=mutated(ALERTS))
@hypothesis.example(answer=DEEP)
@hypothesis.example(answer=ALERTS[0].replace(b'"firing"', b"7"))
@hypothesis.example(answer=b'{"data":{"alerts":{"a":1}}}')
def test_alerts_of_prometheus(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def get(_url: str) -> str:
        return answer.decode()

    monkeypatch.setattr(sources, "_get", get)
    reader = sources.Sources({}, "http://p")
    try:
        with bounded(len(answer)):
            found = reader.alerts()
    finally:
        reader.close()
    if isinstance(found, str):
        assert 0 < len(found) < 2_000
    else:
        assert all(isinstance(text, str) for one in found for text in msgspec.structs.astuple(one))


def _page() -> bytes:
    registry = CollectorRegistry()
    observer = Observer(ExporterMetrics(registry))
    for log in corpus.LOGS:
        observer.observe_log_record(log)
    return generate_latest(registry)[:6_000]


@dose(50)
@given(page=mutated([_page(), b'# HELP a b\n# TYPE a counter\na_total{b="c"} 1.0 1\n']))
@hypothesis.example(page=b"a" + b"{" * 5_000)
@hypothesis.example(page=b'a{b="c} 1')
@hypothesis.example(page=b"# TYPE a histogram\na_bucket 1 2 3 4\n")
def test_metrics_pages(page: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def get(_url: str) -> str:
        return page.decode()

    monkeypatch.setattr(sources, "_get", get)
    with bounded(len(page)):
        found = sources._query("http://w")
    assert (found.scrape is None) == bool(found.problem)
    if found.scrape is None:
        return
    window = Window(60.0)
    window.add("u", found.scrape)
    window.add("u", found.scrape._replace(at=found.scrape.at + 1))
    window.quantile(0.9, "inflight_prediction_latency_seconds", stage="total")
    window.rates("inflight_predictions_total", "model")
    assert parse(page.decode()) == found.scrape.series

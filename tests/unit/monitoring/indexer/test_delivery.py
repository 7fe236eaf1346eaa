"""Which refusals are believed, what replaces what, and what is told of it: against a node that does as it is told."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from elastic_transport import ApiResponseMeta, HttpHeaders, NodeConfig
from elasticsearch import BadRequestError, ConnectionTimeout
from prometheus_client import CollectorRegistry

from inflight.settings import Settings
from machine_learning_engineering.events.schemas import Error
from monitoring.indexer import delivery
from monitoring.indexer.batch import Batch
from monitoring.indexer.delivery import MAX_REFUSALS, Delivery
from monitoring.indexer.metrics import IndexerMetrics
from monitoring.runtime import retry

Records = Callable[..., Any]
SPOILT = {"error": {"type": "parse_exception", "reason": "no"}, "status": 400}
META = ApiResponseMeta(400, "1.1", HttpHeaders(), 0.0, NodeConfig("http", "localhost", 9200))


class Node:
    """Holds documents by id; `refuse` gives the body of a 400 for the ids of a request, `item` an error for one id."""

    def __init__(self) -> None:
        self.documents: dict[str, Any] = {}
        self.requests = 0
        self.refuse: Callable[[list[str]], Any] = lambda _ids: None
        self.item: Callable[[str], dict[str, Any] | None] = lambda _id: None

    def perform_request(self, _method: str, path: str, *, body: Any, **_: Any) -> Any:
        self.requests += 1
        answer = self._bulk(body) if path == "/_bulk" else self._mget(body)
        return type("Response", (), {"body": answer})

    def _bulk(self, body: bytes) -> Any:
        lines = [json.loads(line) for line in body.splitlines()]
        actions = [next(iter(line.items())) for line in lines[::2]]
        if (refusal := self.refuse([fields["_id"] for _, fields in actions])) is not None:
            raise BadRequestError("no", META, refusal)
        items = []
        for (kind, fields), document in zip(actions, lines[1::2], strict=True):
            identity = fields["_id"]
            item = self.item(identity)
            if item is None and kind == "create" and identity in self.documents:
                item = {"status": 409}
            if item is None:
                self.documents[identity] = document
                item = {"status": 201}
            items.append({kind: item})
        return {"items": items}

    def _mget(self, body: Any) -> Any:
        found = [(doc["_id"], self.documents.get(doc["_id"])) for doc in body["docs"]]
        return {
            "docs": [
                {"_id": name, "found": doc is not None, "_source": doc, "_seq_no": 1, "_primary_term": 1}
                for name, doc in found
            ]
        }


class Writer:
    def write(self, rejected: list[Any], _cancelled: threading.Event) -> bool:
        return True


@pytest.fixture
def node() -> Node:
    return Node()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def deliver(
    node: Node, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Batch], dict[str, int] | None]:
    """Delivers a batch; None if it is still retrying after `TRIES` retries."""
    settings = Settings(_env_file=None, kafka_bootstrap_servers="127.0.0.1:1")  # type: ignore[call-arg]
    found = Delivery(settings, node, IndexerMetrics(registry))  # type: ignore[arg-type]
    found._writer = Writer()  # type: ignore[assignment]
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.0)

    def run(batch: Batch) -> dict[str, int] | None:
        cancelled = threading.Event()
        tries = iter(range(30))
        monkeypatch.setattr(cancelled, "wait", lambda _seconds: next(tries, None) is None and cancelled.set())
        tally = found.deliver(batch, cancelled)
        return None if tally is None else {result: count for (_, result), count in tally.items()}

    return run


def _retries(registry: CollectorRegistry) -> dict[str, float]:
    """The number of retries by cause."""
    samples = [sample for family in registry.collect() for sample in family.samples]
    return {
        sample.labels["cause"]: sample.value for sample in samples if sample.name == "inflight_indexer_retries_total"
    }


def of(record: Records, *numbers: int, **fields: Any) -> Batch:
    batch = Batch()
    for number in numbers:
        batch.add(record(number, request_id=f"r{number}", **fields))
    return batch


@pytest.mark.parametrize("body", ["<html>400 plain HTTP request", None, {"message": "no"}, {"error": "no"}, [1]])
def test_a_400_that_is_not_elasticsearchs_is_retried(
    node: Node, deliver: Callable[[Batch], Any], record: Records, body: Any
) -> None:
    """A proxy answers, and knows nothing of our records: none of them is at fault."""
    node.refuse = lambda _ids: "" if body is None else body
    assert deliver(of(record, *range(50))) is None
    assert node.requests < 40
    node.refuse = lambda _ids: None
    assert deliver(of(record, *range(50))) == {"created": 50}


def test_a_server_that_refuses_one_record_after_the_other_is_not_believed(
    node: Node, deliver: Callable[[Batch], Any], record: Records
) -> None:
    """Also batch by batch, as at night; a few records are set aside until then."""
    node.refuse = lambda _ids: SPOILT
    found = [deliver(of(record, number)) for number in range(MAX_REFUSALS + 3)]
    assert found == [{"index_rejected": 1}] * MAX_REFUSALS + [None] * 3


def test_a_record_that_spoils_requests_is_believed_once_others_are_taken(
    node: Node, deliver: Callable[[Batch], Any], record: Records
) -> None:
    """However many there are in a row."""
    spoilt = {f"r{number}" for number in range(30)}
    node.refuse = lambda ids: SPOILT if spoilt & set(ids) else None
    assert deliver(of(record, *range(40))) == {"index_rejected": 30, "created": 10}


def test_a_completed_request_replaces_a_failed_one(
    node: Node, deliver: Callable[[Batch], Any], record: Records
) -> None:
    """Sent again with the same id, in this batch or a later one; it keeps its label. Not the other way round."""
    failure = {"error": Error("prediction_error", "KeyError at model.py:1 in predict")}
    assert deliver(of(record, 1, **failure)) == {"created": 1}
    node.documents["r1"]["inflight"] |= {"label": "1.5", "labelled": True}
    assert deliver(of(record, 1)) == {"replaced": 1}
    stored = node.documents["r1"]
    assert (stored["inflight"]["outcome"], stored["inflight"]["label"]) == ("completed", "1.5")
    assert "error" not in stored
    assert deliver(of(record, 1, **failure)) == {"replayed": 1}
    assert deliver(of(record, 1)) == {"replayed": 1}
    both = of(record, 2, **failure)
    both.add(record(3, request_id="r2"))
    assert deliver(both) == {"created": 1, "replaced": 1}
    assert node.documents["r2"]["inflight"]["outcome"] == "completed"


def test_an_archive_is_not_waited_for(
    node: Node, deliver: Callable[[Batch], Any], record: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blocked index of a past day takes no record; the others are indexed meanwhile."""
    block = {"status": 403, "error": {"type": "cluster_block_exception", "reason": "index blocked"}}
    node.item = lambda identity: block if identity == "r1" else None
    assert deliver(of(record, 1, 2)) is None
    assert set(node.documents) == {"r2"}
    monkeypatch.setattr(delivery, "BLOCKED_SECONDS", 0.0)
    assert deliver(of(record, 1)) == {"index_rejected": 1}


@pytest.mark.parametrize(
    "error",
    [
        {"type": "cluster_block_exception", "reason": "disk usage exceeded flood-stage watermark"},
        {"type": "illegal_argument_exception", "reason": "pipeline with id [p] does not exist"},
        {"type": "validation_exception", "reason": "this action would add [2] shards"},
    ],
)
def test_a_state_of_the_cluster_is_no_fault_of_a_document(
    node: Node, deliver: Callable[[Batch], Any], record: Records, registry: CollectorRegistry, error: dict[str, str]
) -> None:
    """Whatever status it has."""
    node.item = lambda _id: {"status": 429 if "cluster" in error["type"] else 400, "error": error}
    assert deliver(of(record, 1)) is None
    assert set(_retries(registry)) <= {"400", "429"}


def test_a_request_in_halves_is_no_retry_of_elasticsearchs(
    node: Node, deliver: Callable[[Batch], Any], record: Records, registry: CollectorRegistry
) -> None:
    """An alert tells the two apart: one bad record among others is the record's fault."""
    node.refuse = lambda ids: SPOILT if "r3" in ids else None
    assert deliver(of(record, *range(8))) == {"index_rejected": 1, "created": 7}
    assert _retries(registry) == {"halved": 3}


def test_a_node_that_is_too_slow_for_a_batch_gets_smaller_ones(
    node: Node, deliver: Callable[[Batch], Any], record: Records, registry: CollectorRegistry
) -> None:
    """Sent again as a whole, it would time out for ever, and stop its partition."""

    def refuse(ids: list[str]) -> None:
        sizes.append(len(ids))
        if len(ids) > 2:
            raise ConnectionTimeout("too slow")

    sizes: list[int] = []
    node.refuse = refuse
    assert deliver(of(record, *range(16))) == {"created": 16}
    assert sizes == [16, 8, 4, 2, 2, 4, 2, 2, 8, 4, 2, 2, 4, 2, 2]
    assert _retries(registry) == {"ConnectionTimeout": 7}
    node.refuse = lambda _ids: refuse([""] * 3)
    assert deliver(of(record, 20)) is None, "one record is not divided, and is no dead letter"


def test_a_race_for_the_mapping_of_a_field_is_lost_once(
    node: Node, deliver: Callable[[Batch], Any], record: Records
) -> None:
    """Two requests made the field at the same time; sent again, the document fits."""
    lost = {"type": "illegal_argument_exception", "reason": "mapper [x] cannot be changed from type [long] to [text]"}
    tries = iter([{"status": 400, "error": lost}])
    node.item = lambda _id: next(tries, None)
    assert deliver(of(record, 1)) == {"created": 1}
    node.item = lambda _id: {"status": 400, "error": lost}
    assert deliver(of(record, 2)) == {"index_rejected": 1}


def test_the_reason_of_a_refusal_is_told(
    node: Node, deliver: Callable[[Batch], Any], record: Records, caplog: pytest.LogCaptureFixture
) -> None:
    """A status alone does not say what to do."""
    reason = "no such index [inference-logs-2026.03.01] and [action.auto_create_index] is [false]"
    node.item = lambda _id: {"status": 404, "error": {"type": "index_not_found_exception", "reason": reason}}
    with caplog.at_level("INFO"):
        assert deliver(of(record, 1)) is None
    assert any(reason in str(entry.__dict__) for entry in caplog.records)

"""The deployment's log as a `PredictionLog`: it holds what the indexer wrote, and says what goes wrong."""

import json
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
from inflight.stack.process import free_port
from machine_learning_engineering.events.schemas import Error, PredictionLogged, encode
from machine_learning_engineering.prediction_log.store import PredictionLogError
from machine_learning_engineering.testing.log_store_examples import START, example, failed, fresh
from monitoring.elastic import bulk, scan, templates
from monitoring.elastic import client as elastic
from monitoring.elastic.prediction_log import ElasticsearchPredictionLog
from monitoring.indexer.projections import log_entries

ACCEPTED = datetime(2026, 3, 1, 23, 59, 59, 999_000, tzinfo=UTC)


class Record:
    """A Kafka record, as far as the indexer reads it here."""

    def __init__(self, event: PredictionLogged) -> None:
        self._value = encode(event)

    def value(self) -> bytes:
        return self._value


@pytest.fixture
def settings(each_search: Any, tmp_path: Path) -> Settings:
    # elasticsearch_batch_records: a batch of a few records is several requests.
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        home=tmp_path,
        elasticsearch_url=each_search.url,
        elasticsearch_batch_records=3,
    )


@pytest.fixture
def client(settings: Settings) -> Iterator[Elasticsearch]:
    with elastic.connect(settings) as connected:
        yield connected


@pytest.fixture
def log(settings: Settings) -> Iterator[ElasticsearchPredictionLog]:
    with ElasticsearchPredictionLog(settings) as opened:
        yield opened


@pytest.fixture
def model(client: Elasticsearch) -> Iterator[str]:
    """A name of this test's own, whose documents are deleted after it."""
    name = fresh()
    yield name
    elastic.request(client, "POST", "/inference-logs-*/_refresh")
    found = scan.hits(client, "inference-logs-*", {"size": 1_000, "query": {"term": {"inflight.model.name": name}}})
    if found:
        bulk.BulkSender(client, 10_000_000).delete([(hit["_index"], hit["_id"]) for hit in found])


def logged(request_id: str, model: str, **fields: Any) -> PredictionLogged:
    given: dict[str, Any] = {
        "request_id": request_id,
        "model": model,
        "outcome": "failed" if "error" in fields else "completed",
        "features": Raw(b'{"cut": "Ideal", "carat": 0.230}'),
        "requested_at": ACCEPTED,
        "accepted_at": ACCEPTED,
        "completed_at": ACCEPTED + timedelta(seconds=1),
        "queue_seconds": 0.1,
        "score_seconds": 0.02,
        "total_seconds": 1.0,
        "batch_size": 7,
        "partition": 2,
        "offset": 40,
        "model_version": "v3",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "prediction": UNSET if "error" in fields else Raw(b'{"price": 326.0}'),
    }
    return PredictionLogged(**(given | fields))


def index(client: Elasticsearch, settings: Settings, *events: PredictionLogged) -> list[int]:
    """Send log records as the indexer does; the status of each."""
    templates.put_templates(client, settings)
    entries = [log_entries(Record(event))[0] for event in events]  # type: ignore[arg-type]
    return [item.status for item in bulk.bulk(client, [entry.lines for entry in entries])]


def test_what_the_indexer_wrote_is_read(
    client: Elasticsearch, settings: Settings, log: ElasticsearchPredictionLog, model: str
) -> None:
    """Also failures, features that no model understood, and requests that met no model."""
    broken = logged(f"{model}-2", model, features=Raw(b"[1, 2]"), error=Error("invalid_features", "not an object"))
    next_day = ACCEPTED + timedelta(milliseconds=1)
    unknown = logged(
        f"{model}-3", model, accepted_at=next_day, error=Error("unknown_model", "none"), model_version=UNSET
    )
    long = logged(model + "€" * 200, model, accepted_at=next_day + timedelta(seconds=1))
    assert index(client, settings, logged(f"{model}-1", model), broken, unknown, long) == [201] * 4

    first, second, third, fourth = log.read(model)

    assert msgspec.structs.asdict(first) == {
        "request_id": f"{model}-1",
        "model": model,
        "model_version": "v3",
        "outcome": "completed",
        "features": Raw(b'{"carat":0.23,"cut":"Ideal"}'),
        "created_at": ACCEPTED,
        "score_seconds": 0.02,
        "batch_size": 7,
        "prediction": Raw(b'{"price":326.0}'),
        "error": UNSET,
        "label": UNSET,
        "label_source": UNSET,
        "redacted": UNSET,
    }
    assert (second.features, second.error, second.prediction) == (Raw(b"[1, 2]"), broken.error, UNSET)
    assert (third.model_version, third.created_at) == ("", next_day)
    assert fourth.request_id == model + "€" * 200
    assert [one.request_id for one in log.read(model, version="v3", until=next_day)] == [f"{model}-1", f"{model}-2"]


def test_a_label_stays_when_the_topic_is_read_again(
    client: Elasticsearch, settings: Settings, log: ElasticsearchPredictionLog, model: str
) -> None:
    """The indexer finds its document, the same by its fingerprint, and leaves it alone."""
    event = logged(f"{model}-1", model)
    index(client, settings, event)
    log.label(f"{model}-1", 326.5)
    assert index(client, settings, event) == [409]
    (entry,) = log_entries(Record(event))  # type: ignore[arg-type]
    (stored,) = scan.stored_requests(client, [(entry.index_name, entry.id)])
    assert stored is not None
    assert stored.fingerprint == entry.fingerprint
    assert [one.label for one in log.read(model)] == [Raw(b"326.5")]


def test_a_label_can_be_searched_for(client: Elasticsearch, log: ElasticsearchPredictionLog, model: str) -> None:
    """So that a dashboard can show live quality."""
    log.append([example(f"{model}-{n}", model) for n in range(2)])
    log.label(f"{model}-1", True)
    elastic.request(client, "POST", "/inference-logs-*/_refresh")
    conditions = [{"term": {"inflight.model.name": model}}, {"term": {"inflight.label": "true"}}]
    found = scan.hits(client, "inference-logs-*", {"query": {"bool": {"filter": conditions}}})
    assert [hit["_id"] for hit in found] == [f"{model}-1"]


def test_what_is_appended_is_a_document_like_the_indexers(
    client: Elasticsearch, log: ElasticsearchPredictionLog, model: str
) -> None:
    """But for the place on a topic that it does not have."""
    log.append([failed(f"{model}-1", model, error=Error("prediction_error", "no"))])
    [found] = elastic.request(
        client, "POST", "/_mget", {"docs": [{"_index": "inference-logs-2026.01.01", "_id": f"{model}-1"}]}
    )["docs"]
    source = found["_source"]
    assert (source["@timestamp"], source["event"]["outcome"]) == ("2026-01-01T12:00:00Z", "failure")
    assert source["inflight"]["completed_at"] == "2026-01-01T12:00:00.250000Z"
    assert "kafka" not in source["inflight"]


def test_a_batch_of_which_one_record_is_refused_is_taken_back(log: ElasticsearchPredictionLog, model: str) -> None:
    """Also what an earlier request of the batch brought in."""
    records = [example(f"{model}-{n}", model) for n in range(5)]
    refused = example(f"{model}-5", model, batch_size="many")
    with pytest.raises(PredictionLogError, match=r"can't be written: .*batch_size"):
        log.append([*records, refused])
    assert list(log.read(model)) == []
    assert log.append(records) == 5


def test_a_node_that_is_away_is_named() -> None:
    """Every call says which log it is."""
    url = f"http://127.0.0.1:{free_port()}"
    settings = Settings(_env_file=None, elasticsearch_url=url)  # type: ignore[call-arg]
    with ElasticsearchPredictionLog(settings) as log:
        assert log.append([]) == 0
        with pytest.raises(PredictionLogError, match=f"{url} can't be written: Connection"):
            log.append([example("r1", "m")])
        with pytest.raises(PredictionLogError, match=f"{url} can't be read: Connection.* .inflight status."):
            list(log.read("m"))
        with pytest.raises(PredictionLogError, match=f"{url} can't be read: Connection.* .inflight status."):
            log.label("r1", 1)


def test_a_document_of_somebody_else_is_named(
    client: Elasticsearch, settings: Settings, log: ElasticsearchPredictionLog, model: str
) -> None:
    """It is not skipped in silence."""
    templates.put_templates(client, settings)
    document_id = f"foreign-{uuid.uuid4().hex}"
    document = {"@timestamp": START.isoformat(), "inflight": {"model": {"name": model}, "request_id": document_id}}
    action = bulk.action("create", "inference-logs-2026.01.01", document_id)
    bulk.bulk(client, [action + b"\n" + json.dumps(document).encode()])
    with pytest.raises(PredictionLogError, match=rf"\.01/{document_id} was not written by Inflight: .*`outcome`"):
        list(log.read(model))

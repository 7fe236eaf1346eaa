"""The log's documents as labels see them: found by request id, and labelled by compare-and-set.

A document is written only if it is still the one that was looked at (`if_seq_no` and `if_primary_term`), so that of
two joiners neither undoes the other's label. No script runs in the search node.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import msgspec
from elasticsearch import Elasticsearch, NotFoundError

from monitoring.documents.log import INDEX_PATTERN
from monitoring.elastic import client as search
from monitoring.elastic import scan, templates
from monitoring.labels.reports import NEVER, Rank, Report
from monitoring.settings import ElasticsearchSettings

_JSON = "application/vnd.elasticsearch+json; compatible-with=8"
_NDJSON = "application/vnd.elasticsearch+x-ndjson; compatible-with=8"
_ENOUGH_HITS = 10_000
_MOST_IDS = 1_000
_FIELDS = [
    "@timestamp",
    "inflight.request_id",
    "inflight.model",
    "inflight.label",
    "inflight.label_observed_at",
]
# Indices that are older than these fields get them too; the templates are for those to come.
_NEW_FIELDS = {"inflight": {"properties": {"label_observed_at": {"type": "date"}, "labelled": {"type": "boolean"}}}}
_encode = msgspec.json.encode
_T = TypeVar("_T")


class Version(NamedTuple):
    """A version of a model, as the log names it."""

    model: str
    version: str


class Logged(NamedTuple):
    """A document of the log; `seq_no` and `primary_term` say which state of it this is."""

    index_name: str
    id: str
    seq_no: int
    primary_term: int
    request_id: str
    model: str
    version: str
    accepted_at: datetime
    held: Rank | None


class Written(NamedTuple):
    """The answer to one action of a bulk request; `error` is empty if there is none."""

    status: int
    error: str
    result: str


class LabelStore:
    """Finds and labels documents. Each call raises what `bulk` raises, and tries nothing again."""

    def __init__(self, client: Elasticsearch, settings: ElasticsearchSettings) -> None:
        self._client = client
        self._settings = settings

    def prepare(self) -> None:
        """Put the templates, and the fields of labels into the indices that are there."""
        templates.put_templates(self._client, self._settings)
        with suppress(NotFoundError):  # there is no index yet
            search.call(self._client, "PUT", f"/{INDEX_PATTERN}/_mapping", {"properties": _NEW_FIELDS})

    def find(self, request_ids: Sequence[str]) -> list[Logged]:
        """The documents of requests, as far as they can be searched already: usually a second after indexing.

        An id that was used on two UTC days has two.
        """
        if len(request_ids) > _MOST_IDS:
            middle = len(request_ids) // 2
            return self.find(request_ids[:middle]) + self.find(request_ids[middle:])
        body = {
            "size": _ENOUGH_HITS,
            "track_total_hits": False,
            "seq_no_primary_term": True,
            "_source": _FIELDS,
            "query": {"bool": {"filter": [{"terms": {"inflight.request_id": list(request_ids)}}]}},
        }
        hits = scan.hits(self._client, INDEX_PATTERN, body)
        if len(hits) >= _ENOUGH_HITS and len(request_ids) > 1:
            middle = len(request_ids) // 2
            return self.find(request_ids[:middle]) + self.find(request_ids[middle:])
        return [logged for hit in hits if (logged := _logged(hit)) is not None]

    def look_again(self, documents: Sequence[Logged]) -> list[Logged | None]:
        """The documents as they are at this moment; None for what is gone."""
        wanted = [{"_index": document.index_name, "_id": document.id} for document in documents]
        answer = search.call(self._client, "POST", "/_mget", {"docs": wanted}, _source=",".join(_FIELDS))
        found = answer.get("docs") if isinstance(answer, dict) else None
        if not isinstance(found, list) or len(found) != len(wanted):
            raise search.StrangeAnswerError(f"an answer without docs: {answer!r:.200}")
        return [_logged(doc) if doc.get("found") else None for doc in found]

    def write(self, labels: Sequence[tuple[Logged, Report]]) -> list[Written]:
        """Label documents that nobody has changed since they were looked at; 409 or 404 where somebody has."""
        lines = [
            _encode(
                {
                    "update": {
                        "_index": document.index_name,
                        "_id": document.id,
                        "if_seq_no": document.seq_no,
                        "if_primary_term": document.primary_term,
                    }
                }
            )
            + b"\n"
            + _encode({"doc": {"inflight": label_fields(report.label, report.observed_at)}})
            for document, report in labels
        ]
        return bulk(self._client, lines, self._settings.elasticsearch_batch_bytes)

    def refresh(self) -> None:
        """Make everything that was written searchable."""
        search.call(self._client, "POST", f"/{INDEX_PATTERN}/_refresh")

    def versions(self, since: datetime) -> list[Version]:
        """The versions that have labelled requests accepted since then."""
        body = {
            "size": 0,
            "query": {"bool": {"filter": _labelled_since(since)}},
            "aggs": {
                "models": {
                    "terms": {"field": "inflight.model.name", "size": 100},
                    "aggs": {"versions": {"terms": {"field": "inflight.model.version", "size": 20}}},
                }
            },
        }
        answer = search.call(self._client, "POST", f"/{INDEX_PATTERN}/_search", body)
        try:
            # Where there is no index yet, there are no aggregations.
            models = answer.get("aggregations", {}).get("models", {}).get("buckets", [])
            return [Version(model["key"], one["key"]) for model in models for one in model["versions"]["buckets"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise search.StrangeAnswerError(f"an answer without versions: {answer!r:.200}") from error

    def rows(self, version: Version, since: datetime, most: int) -> list[tuple[datetime, bytes, bytes]]:
        """Moment of acceptance, prediction and label (JSON texts) of the newest labelled answers, newest first."""
        body = {
            "size": most,
            "track_total_hits": False,
            "_source": ["@timestamp", "inflight.prediction", "inflight.label"],
            "sort": [{"@timestamp": "desc"}, {"inflight.request_id": "desc"}],
            "query": {
                "bool": {
                    "filter": [
                        *_labelled_since(since),
                        {"term": {"inflight.model.name": version.model}},
                        {"term": {"inflight.model.version": version.version}},
                        {"term": {"inflight.outcome": "completed"}},
                    ]
                }
            },
        }
        sources = [hit["_source"] for hit in scan.hits(self._client, INDEX_PATTERN, body)]
        return [
            (
                datetime.fromisoformat(source["@timestamp"]).astimezone(UTC),
                _encode(source["inflight"]["prediction"]),
                source["inflight"]["label"].encode(),
            )
            for source in sources
            if "prediction" in source["inflight"] and "label" in source["inflight"]
        ]


def label_fields(label: str, observed_at: datetime) -> dict[str, Any]:
    """The fields of a document with a label."""
    return {"label": label, "label_observed_at": observed_at, "labelled": True}


def bulk(client: Elasticsearch, lines: Sequence[bytes], most_bytes: int) -> list[Written]:
    """Carry out actions, each with its line of JSON below it if it needs one; requests are of about `most_bytes`.

    Raises:
        elasticsearch.ApiError: an answer that is not 2xx.
        elasticsearch.TransportError: no answer.
        search.StrangeAnswerError: an answer with 2xx that is not a bulk answer.
    """
    written: list[Written] = []
    for chunk in chunks(lines, most_bytes, len):
        answer = client.perform_request(
            "POST",
            "/_bulk",
            params={"filter_path": "items.*.status,items.*.error.type,items.*.error.reason,items.*.result"},
            headers={"accept": _JSON, "content-type": _NDJSON},
            body=b"\n".join([*chunk, b""]),
        ).body
        try:
            items = [item for entry in answer["items"] for item in entry.values()]
            if len(items) != len(chunk):
                raise KeyError("items")
            for item in items:
                error = item.get("error") or {}
                text = f"{error.get('type')}: {error.get('reason')}" if error else ""
                written.append(Written(item["status"], text, item.get("result", "")))
        except (KeyError, TypeError, AttributeError) as error:
            raise search.StrangeAnswerError(f"an answer without items: {answer!r:.200}") from error
    return written


def chunks(items: Sequence[_T], most: int, size: Callable[[_T], int]) -> Iterator[list[_T]]:
    """Parts whose sizes add up to at most `most`, or that hold one item."""
    chunk: list[_T] = []
    total = 0
    for item in items:
        if chunk and total + size(item) > most:
            yield chunk
            chunk, total = [], 0
        chunk.append(item)
        total += size(item)
    if chunk:
        yield chunk


def _labelled_since(since: datetime) -> list[dict[str, Any]]:
    moment = int(since.timestamp() * 1000)
    return [
        {"term": {"inflight.labelled": True}},
        {"range": {"@timestamp": {"gte": moment, "format": "epoch_millis"}}},
    ]


def _logged(hit: dict[str, Any]) -> Logged | None:
    """What was found; None if it is no document of this product."""
    try:
        source = hit["_source"]
        inference = source["inflight"]
        label, observed_at = inference.get("label"), inference.get("label_observed_at")
        held = None if label is None else Rank(_moment(observed_at) if observed_at else NEVER, label)
        return Logged(
            index_name=hit["_index"],
            id=hit["_id"],
            seq_no=hit["_seq_no"],
            primary_term=hit["_primary_term"],
            request_id=inference["request_id"],
            model=inference["model"]["name"],
            version=inference["model"].get("version", ""),
            accepted_at=_moment(source["@timestamp"]),
            held=held,
        )
    except (KeyError, TypeError, ValueError):
        return None


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)

"""The documents of `inference-logs-*` as labels see them: found by request id, labelled by compare-and-set.

A document is written only if it is unchanged since it was read (`if_seq_no` and `if_primary_term`), so two joiners
never undo each other's labels. No script runs in Elasticsearch.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from elasticsearch import Elasticsearch

from monitoring.documents.log import INDEX_PATTERN, label_fields
from monitoring.elastic import scan
from monitoring.elastic.bulk import BulkItem, BulkSender, action
from monitoring.elastic.templates import put_templates
from monitoring.labels.reports import NEVER, Rank, Report
from monitoring.settings import ElasticsearchSettings

_MAX_HITS = 10_000
_MAX_IDS = 1_000
_FIELDS = [
    "@timestamp",
    "inflight.request_id",
    "inflight.model",
    "inflight.label",
    "inflight.label_observed_at",
    "inflight.label_reported_at",
]


class LoggedRequest(NamedTuple):
    """A document of the log; `seq_no` and `primary_term` identify its state, `held` is the label it has."""

    index_name: str
    id: str
    seq_no: int
    primary_term: int
    request_id: str
    model: str
    version: str
    accepted_at: datetime
    held: Rank | None


class LabelStore:
    """Finds and labels documents. Each call raises as `bulk` does and retries nothing."""

    def __init__(self, client: Elasticsearch, settings: ElasticsearchSettings) -> None:
        self._client = client
        self._settings = settings
        self._sender = BulkSender(client, settings.elasticsearch_batch_bytes)

    def prepare(self) -> None:
        """Put the templates."""
        put_templates(self._client, self._settings)

    def find(self, request_ids: Sequence[str]) -> list[LoggedRequest]:
        """The documents of requests that are searchable already: usually a second after indexing.

        An id that was used on two UTC days has two.
        """
        if len(request_ids) > _MAX_IDS:
            return self._find_halves(request_ids)
        body = {
            "size": _MAX_HITS,
            "track_total_hits": False,
            "seq_no_primary_term": True,
            "_source": _FIELDS,
            "query": {"bool": {"filter": [{"terms": {"inflight.request_id": list(request_ids)}}]}},
        }
        hits = scan.hits(self._client, INDEX_PATTERN, body)
        if len(hits) >= _MAX_HITS and len(request_ids) > 1:
            return self._find_halves(request_ids)
        return [logged for hit in hits if (logged := _logged(hit)) is not None]

    def _find_halves(self, request_ids: Sequence[str]) -> list[LoggedRequest]:
        middle = len(request_ids) // 2
        return self.find(request_ids[:middle]) + self.find(request_ids[middle:])

    def reread(self, documents: Sequence[LoggedRequest]) -> list[LoggedRequest | None]:
        """The present state of documents; None for each that no longer exists."""
        found = scan.documents(self._client, [(one.index_name, one.id) for one in documents], _FIELDS)
        return [None if doc is None else _logged(doc) for doc in found]

    def write(self, labels: Sequence[tuple[LoggedRequest, Report]]) -> list[BulkItem]:
        """Label documents that are unchanged since they were read; status 409 or 404 for the others."""
        actions = [
            action(
                "update",
                document.index_name,
                document.id,
                if_seq_no=document.seq_no,
                if_primary_term=document.primary_term,
            )
            + b"\n"
            + msgspec.json.encode({"doc": {"inflight": _label_fields(report)}})
            for document, report in labels
        ]
        return self._sender.send(actions)


def _label_fields(report: Report) -> dict[str, Any]:
    return label_fields(report.label, report.observed_at, report.reported_at, report.source)


def _logged(hit: scan.Hit) -> LoggedRequest | None:
    """The document of a hit; None if Inflight did not write it."""
    try:
        source = hit["_source"]
        inflight = source["inflight"]
        label = inflight.get("label")
        observed_at, reported_at = inflight.get("label_observed_at"), inflight.get("label_reported_at")
        held = None if label is None else Rank(_utc(observed_at), _utc(reported_at), label)
        return LoggedRequest(
            index_name=hit["_index"],
            id=hit["_id"],
            seq_no=hit["_seq_no"],
            primary_term=hit["_primary_term"],
            request_id=inflight["request_id"],
            model=inflight["model"]["name"],
            version=inflight["model"].get("version", ""),
            accepted_at=_utc(source["@timestamp"]),
            held=held,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def _utc(text: str | None) -> datetime:
    return NEVER if text is None else datetime.fromisoformat(text).astimezone(UTC)

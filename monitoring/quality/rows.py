"""Reads labelled predictions from `inference-logs-*`."""

from datetime import UTC, datetime
from typing import Any

import msgspec
from elasticsearch import Elasticsearch

from monitoring.documents.log import INDEX_PATTERN
from monitoring.elastic import scan
from monitoring.elastic.client import UnexpectedResponse, request
from monitoring.model_version import ModelVersion


class LabelledPredictions:
    """Predictions with a label. Each call raises as `bulk` does and retries nothing."""

    def __init__(self, client: Elasticsearch) -> None:
        self._client = client

    def refresh(self) -> None:
        """Make everything that was written searchable."""
        request(self._client, "POST", f"/{INDEX_PATTERN}/_refresh")

    def versions(self, since: datetime) -> list[ModelVersion]:
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
        response = scan.search(self._client, INDEX_PATTERN, body)
        try:
            # Without any index there are no aggregations.
            models = response.get("aggregations", {}).get("models", {}).get("buckets", [])
            return [ModelVersion(model["key"], one["key"]) for model in models for one in model["versions"]["buckets"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise UnexpectedResponse(f"a search response without versions: {response!r:.200}") from error

    def rows(self, version: ModelVersion, since: datetime, max_rows: int) -> list[tuple[datetime, bytes, bytes]]:
        """Time of acceptance, prediction and label (JSON texts) of the newest labelled predictions, newest first."""
        body = {
            "size": max_rows,
            "track_total_hits": False,
            "_source": ["@timestamp", "inflight.prediction", "inflight.prediction_text", "inflight.label"],
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
        rows = (_row(hit) for hit in scan.hits(self._client, INDEX_PATTERN, body))
        return [row for row in rows if row is not None]


def _row(hit: scan.Hit) -> tuple[datetime, bytes, bytes] | None:
    """None if the document has no prediction or label, or was not written by Inflight."""
    try:
        moment, fields = hit["_source"]["@timestamp"], hit["_source"]["inflight"]
        return datetime.fromisoformat(moment).astimezone(UTC), _prediction(fields), fields["label"].encode()
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def _prediction(fields: dict[str, Any]) -> bytes:
    """As JSON; the whole, of which `prediction` may be a part."""
    text = fields.get("prediction_text")
    return msgspec.json.encode(fields["prediction"]) if text is None else str(text).encode()


def _labelled_since(since: datetime) -> list[dict[str, Any]]:
    moment = int(since.timestamp() * 1000)
    return [
        {"term": {"inflight.labelled": True}},
        {"range": {"@timestamp": {"gte": moment, "format": "epoch_millis"}}},
    ]

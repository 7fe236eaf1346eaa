"""Labels that came before their requests were in the log: kept in `inference-pending-labels` until they can be joined.

A waiting label is a document that never changes: its `_id` is a digest of the record (topic, partition, offset, value),
so that a record which is read again is the same document, and deleting it can't hit another label. How often it is
looked up follows from its age alone, so nothing needs to be written while it waits.
"""

from base64 import b64decode, b64encode
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
from elasticsearch import Elasticsearch

from machine_learning_engineering.events.headers import headers_of
from monitoring.elastic import client as search
from monitoring.elastic import scan
from monitoring.labels.reports import Report, read
from monitoring.labels.store import Written, bulk
from monitoring.settings import ElasticsearchSettings

INDEX = "inference-pending-labels"
# A pattern: where there is no index yet, or it was deleted, a search finds nothing, which is no error.
_PATTERN = INDEX + "*"
_TEMPLATE: dict[str, Any] = {
    "index_patterns": [INDEX],
    "priority": 200,
    "composed_of": ["inflight-settings"],
    "template": {
        "mappings": {
            "dynamic": False,
            "date_detection": False,
            "properties": {
                "@timestamp": {"type": "date"},
                "inflight": {
                    "properties": {
                        "request_id": {"type": "keyword"},
                        "model": {"properties": {"name": {"type": "keyword"}}},
                    }
                },
                "record": {
                    "properties": {
                        "topic": {"type": "keyword"},
                        "partition": {"type": "long"},
                        "offset": {"type": "long"},
                    }
                },
            },
        }
    },
    "_meta": {"managed_by": "inflight", "description": "Labels whose request is not in the log yet."},
}
_encode = msgspec.json.encode


class KeptRecord:
    """The record of a label that waited, as it was on its topic."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def topic(self) -> str:
        topic: str = self._fields["topic"]
        return topic

    def partition(self) -> int:
        partition: int = self._fields["partition"]
        return partition

    def offset(self) -> int:
        offset: int = self._fields["offset"]
        return offset

    def key(self) -> bytes | None:
        return _bytes(self._fields.get("key"))

    def value(self) -> bytes | None:
        return _bytes(self._fields.get("value"))

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return [(name, _bytes(value)) for name, value in self._fields.get("headers") or ()] or None


class Waiting(NamedTuple):
    """A label that waits since a moment; `place` orders it among others, `id` is that of its document."""

    id: str
    since: datetime
    place: list[Any]
    report: Report


class PendingLabels:
    """The waiting labels of one deployment. Each call raises what `bulk` raises, and tries nothing again.

    Args:
        topic: of the labels, with the deployment's prefix: deployments that share a search node share the index.
    """

    def __init__(self, client: Elasticsearch, settings: ElasticsearchSettings, topic: str) -> None:
        self._client = client
        self._most_bytes = settings.elasticsearch_batch_bytes
        self._topic = topic

    def prepare(self) -> None:
        """Put the template of the index."""
        search.call(self._client, "PUT", f"/_index_template/{INDEX}", _TEMPLATE)

    def keep(self, reports: Sequence[Report], now: datetime) -> list[Written]:
        """Let labels wait; 409 for what waits already. What is written is safe, and found a second later."""
        lines = [
            _encode({"create": {"_index": INDEX, "_id": _identity(report)}}) + b"\n" + _encode(_document(report, now))
            for report in reports
        ]
        return bulk(self._client, lines, self._most_bytes)

    def page(
        self, partitions: Collection[int], ages: tuple[float, float], now: datetime, after: list[Any] | None, size: int
    ) -> list[Waiting]:
        """The next labels of partitions of the topic that have waited so long, in seconds; the oldest first.

        Args:
            after: the place of the last one of the page before.
        """
        youngest, oldest = ages
        body: dict[str, Any] = {
            "size": size,
            "track_total_hits": False,
            "sort": [{"@timestamp": "asc"}, {"record.partition": "asc"}, {"record.offset": "asc"}],
            "query": {
                "bool": {
                    "filter": [
                        *self._of(partitions),
                        {
                            "range": {
                                "@timestamp": {
                                    "gt": _milliseconds(now, oldest),
                                    "lte": _milliseconds(now, youngest),
                                    "format": "epoch_millis",
                                }
                            }
                        },
                    ]
                }
            },
        }
        if after is not None:
            body["search_after"] = after
        found = []
        for hit in scan.hits(self._client, _PATTERN, body):
            source = hit["_source"]
            report = read(KeptRecord(source["record"]))
            # Only what could be read was kept.
            if isinstance(report, Report):
                since = datetime.fromisoformat(source["@timestamp"]).astimezone(UTC)
                found.append(Waiting(hit["_id"], since, hit["sort"], report))
        return found

    def remove(self, waiting: Sequence[Waiting]) -> list[bool]:
        """Delete labels that wait no more; False where somebody else was quicker."""
        lines = [_encode({"delete": {"_index": INDEX, "_id": one.id}}) for one in waiting]
        written = bulk(self._client, lines, self._most_bytes)
        if failed := [one for one in written if one.status not in (200, 404)]:
            raise search.StrangeAnswerError(f"{len(failed)} waiting labels were not deleted: {failed[0]}")
        return [one.status == 200 for one in written]

    def count(self, partitions: Collection[int]) -> int:
        """How many labels of these partitions wait."""
        body = {"size": 0, "track_total_hits": True, "query": {"bool": {"filter": self._of(partitions)}}}
        answer = search.call(self._client, "POST", f"/{_PATTERN}/_search", body)
        try:
            return int(answer["hits"]["total"]["value"])
        except (KeyError, TypeError) as error:
            raise search.StrangeAnswerError(f"an answer without a total: {answer!r:.200}") from error

    def _of(self, partitions: Collection[int]) -> list[dict[str, Any]]:
        return [{"term": {"record.topic": self._topic}}, {"terms": {"record.partition": sorted(partitions)}}]


def _identity(report: Report) -> str:
    record = report.record
    place = f"{record.topic()}\0{record.partition()}\0{record.offset()}\0".encode()
    return blake2b(place + (record.value() or b""), digest_size=16).hexdigest()


def _document(report: Report, now: datetime) -> dict[str, Any]:
    record = report.record
    headers = [(name, _text(value)) for name, value in headers_of(record)]
    return {
        "@timestamp": now,
        "inflight": {"request_id": report.request_id, "model": {"name": report.model}},
        "record": {
            "topic": record.topic(),
            "partition": record.partition(),
            "offset": record.offset(),
            "key": _text(record.key()),
            "value": _text(record.value()),
            "headers": headers,
        },
    }


def _text(value: bytes | None) -> str | None:
    return None if value is None else b64encode(value).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)


def _milliseconds(now: datetime, age: float) -> int:
    return int((now - timedelta(seconds=min(age, 1e9))).timestamp() * 1000)

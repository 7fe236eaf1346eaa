"""Pending labels: those whose request is not in the log yet, in `inference-pending-labels` until they can be joined.

A pending label is a document that never changes. Its `_id` is a digest of the record (topic, partition, offset, value),
so a record that is reread is the same document, and deleting it can't hit another label. How often it is looked up
depends on its age alone, so nothing is written while it waits. `resolver` decides how long that is.
"""

from base64 import b64decode, b64encode
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
from elasticsearch import Elasticsearch

from machine_learning_engineering.events.headers import headers_of
from monitoring.elastic import scan
from monitoring.elastic.bulk import BulkItem, BulkSender, action
from monitoring.elastic.client import UnexpectedResponse
from monitoring.labels.reports import Report, read
from monitoring.settings import ElasticsearchSettings

INDEX = "inference-pending-labels"
# A pattern: a search finds nothing, instead of failing, while there is no index.
_PATTERN = INDEX + "*"


class StoredRecord:
    """The record of a pending label, as it was in its topic."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def topic(self) -> str:
        return str(self._fields["topic"])

    def partition(self) -> int:
        return int(self._fields["partition"])

    def offset(self) -> int:
        return int(self._fields["offset"])

    def key(self) -> bytes | None:
        return _bytes(self._fields.get("key"))

    def value(self) -> bytes | None:
        return _bytes(self._fields.get("value"))

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return [(name, _bytes(value)) for name, value in self._fields.get("headers") or ()] or None

    def timestamp(self) -> tuple[int, int]:
        kind, milliseconds = self._fields.get("timestamp") or (0, -1)
        return int(kind), int(milliseconds)


class PendingLabel(NamedTuple):
    """A pending label: id of its document, since when it waits, and its sort values among the others."""

    id: str
    since: datetime
    sort: list[Any]
    report: Report


class PendingLabels:
    """The pending labels of one deployment. Each call raises as `bulk` does and retries nothing.

    Args:
        topic: of the labels, with the deployment's prefix: deployments that share Elasticsearch share the index.
    """

    def __init__(self, client: Elasticsearch, settings: ElasticsearchSettings, topic: str) -> None:
        self._client = client
        self._sender = BulkSender(client, settings.elasticsearch_batch_bytes)
        self._topic = topic

    def park(self, reports: Sequence[Report], now: datetime) -> list[BulkItem]:
        """Store labels; status 409 for each that is stored already. They are searchable a second later."""
        actions = [
            action("create", INDEX, _identity(report)) + b"\n" + msgspec.json.encode(_document(report, now))
            for report in reports
        ]
        return self._sender.send(actions)

    def page(
        self, partitions: Collection[int], ages: tuple[float, float], now: datetime, after: list[Any] | None, size: int
    ) -> list[PendingLabel]:
        """The next `size` labels of some partitions, oldest first.

        Args:
            ages: how long they have waited: minimum and maximum, in seconds.
            after: `sort` of the last label of the previous page.
        """
        youngest, oldest = ages
        body: dict[str, Any] = {
            "size": size,
            "track_total_hits": False,
            "sort": [{"@timestamp": "asc"}, {"inflight.record.partition": "asc"}, {"inflight.record.offset": "asc"}],
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
            try:
                source = hit["_source"]
                report = read(StoredRecord(source["inflight"]["record"]))
                # Only readable labels were stored.
                if isinstance(report, Report):
                    since = datetime.fromisoformat(source["@timestamp"]).astimezone(UTC)
                    found.append(PendingLabel(hit["_id"], since, hit["sort"], report))
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
                continue  # Not written by Inflight.
        return found

    def remove(self, labels: Sequence[PendingLabel]) -> list[bool]:
        """Delete labels; False for each that another process deleted before."""
        return self._sender.delete([(INDEX, label.id) for label in labels])

    def count(self, partitions: Collection[int]) -> int:
        """Number of pending labels of these partitions."""
        body = {"size": 0, "track_total_hits": True, "query": {"bool": {"filter": self._of(partitions)}}}
        response = scan.search(self._client, _PATTERN, body)
        try:
            return int(response["hits"]["total"]["value"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UnexpectedResponse(f"a search response without a total: {response!r:.200}") from error

    def _of(self, partitions: Collection[int]) -> list[dict[str, Any]]:
        return [
            {"term": {"inflight.record.topic": self._topic}},
            {"terms": {"inflight.record.partition": sorted(partitions)}},
        ]


def _identity(report: Report) -> str:
    record = report.record
    position = f"{record.topic()}\0{record.partition()}\0{record.offset()}\0".encode()
    return blake2b(position + (record.value() or b""), digest_size=16).hexdigest()


def _document(report: Report, now: datetime) -> dict[str, Any]:
    record = report.record
    headers = [(name, _text(value)) for name, value in headers_of(record)]
    return {
        "@timestamp": now,
        "inflight": {
            "request_id": report.request_id,
            "model": {"name": report.model},
            "record": {
                "topic": record.topic(),
                "partition": record.partition(),
                "offset": record.offset(),
                "key": _text(record.key()),
                "value": _text(record.value()),
                "headers": headers,
                "timestamp": record.timestamp(),
            },
        },
    }


def _text(value: bytes | None) -> str | None:
    return None if value is None else b64encode(value).decode()


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else b64decode(text)


def _milliseconds(now: datetime, age: float) -> int:
    return int((now - timedelta(seconds=min(age, 1e9))).timestamp() * 1000)

"""What the gateway's console asks of monitoring, which `producers` does not speak to: lag, and the index."""

import asyncio
import threading
import time
from typing import Any, Literal

import msgspec
from confluent_kafka import KafkaException
from msgspec import UNSET, Raw, Struct, UnsetType, field

from machine_learning_engineering.events.schemas import Error, PredictionLogged, Seconds, Timestamp
from machine_learning_engineering.registry.sources import RegistrySources
from machine_learning_engineering.settings import KernelSettings
from monitoring.documents.log import INDEX_PATTERN, document_id
from monitoring.elastic.client import FAILURES, connect
from monitoring.elastic.scan import hits
from monitoring.exporter.lag import LagReader, PartitionLag
from monitoring.settings import ElasticsearchSettings
from producers.gateway.console.sources import GroupLag, LagUnavailable, StoredStory
from producers.gateway.stream import HistoryUnavailable

SECONDS = 2.0
"""Maximum time of one question."""


class BrokerLags:
    """The exporter's lag reader as `Lags`. Connected from the first reading until `close`."""

    def __init__(self, settings: KernelSettings) -> None:
        self._settings = settings
        self._sources = RegistrySources(settings)
        self._reader: LagReader | None = None
        # A watch that ends and the next one may meet here.
        self._lock = threading.Lock()

    def read(self) -> list[GroupLag]:
        """See `Lags.read`."""
        with self._lock:
            if self._reader is None:
                self._reader = LagReader(self._settings, SECONDS, self._sources.topics)
            try:
                groups = self._reader.measure().groups
            except KafkaException as error:
                # The next reading connects anew: the clients may have forgotten all brokers.
                self._reader.close()
                self._reader = None
                raise LagUnavailable(f"the lag can't be read ({error.args[0].name()})") from None
        return [_of_group(*names, parts) for names, parts in sorted(groups.items())]

    def close(self) -> None:
        """See `Lags.close`."""
        with self._lock:
            if self._reader is not None:
                self._reader.close()
                self._reader = None


def _of_group(group: str, topic: str, parts: list[PartitionLag]) -> GroupLag:
    oldest = min((part.timestamp for part in parts if part.timestamp is not None), default=None)
    return GroupLag(
        group,
        topic,
        sum(part.records for part in parts),
        None if oldest is None else max(0.0, time.time() - oldest),
        any(part.committed is not None for part in parts),
    )


class IndexLogbook:
    """`inference-logs-*` as a `Logbook`.

    Args:
        settings: access to Elasticsearch. Nothing is sent before the first call.
    """

    def __init__(self, settings: ElasticsearchSettings) -> None:
        self._settings = settings

    async def find(self, request_id: str) -> StoredStory | None:
        """See `Logbook.find`."""
        return await asyncio.to_thread(self._find, request_id)

    def _find(self, request_id: str) -> StoredStory | None:
        query = {"query": {"ids": {"values": [document_id(request_id)]}}, "size": 1, "sort": ["@timestamp"]}
        try:
            with connect(self._settings, timeout=SECONDS) as client:
                found = hits(client, INDEX_PATTERN, query)
            stories = [stored_story(hit["_source"]) for hit in found]
        except (*FAILURES, ValueError, KeyError, TypeError) as error:
            raise HistoryUnavailable(f"Elasticsearch did not respond as expected ({type(error).__name__})") from None
        return next((one for one in stories if one.event.request_id == request_id), None)


class _Model(Struct):
    name: str
    version: str | UnsetType = UNSET


class _Position(Struct, frozen=True):
    partition: int = -1
    offset: int = -1


class _Id(Struct):
    id: str


class _Fields(Struct):
    request_id: str
    model: _Model
    outcome: Literal["completed", "failed"]
    requested_at: Timestamp
    completed_at: Timestamp
    queue_seconds: Seconds
    score_seconds: Seconds
    total_seconds: Seconds
    batch_size: int
    kafka: _Position = _Position()
    features: Any = None
    features_text: str | None = None
    prediction: Any = None
    prediction_text: str | None = None
    label: str | None = None
    label_observed_at: Timestamp | None = None
    redacted: list[str] | UnsetType = UNSET


class _Source(Struct):
    inflight: _Fields
    timestamp: Timestamp = field(name="@timestamp")
    error: Error | UnsetType = UNSET
    trace: _Id | None = None
    span: _Id | None = None


def stored_story(source: Any) -> StoredStory:
    """The request in a document of the index.

    Raises:
        ValueError: it is none.
    """
    found = msgspec.convert(source, _Source)
    fields = found.inflight
    event = PredictionLogged(
        request_id=fields.request_id,
        model=fields.model.name,
        outcome=fields.outcome,
        features=_raw(fields.features_text, fields.features) or Raw(b"null"),
        requested_at=fields.requested_at,
        accepted_at=found.timestamp,
        completed_at=fields.completed_at,
        queue_seconds=fields.queue_seconds,
        score_seconds=fields.score_seconds,
        total_seconds=fields.total_seconds,
        batch_size=fields.batch_size,
        partition=fields.kafka.partition,
        offset=fields.kafka.offset,
        model_version=fields.model.version,
        prediction=_raw(fields.prediction_text, fields.prediction) or UNSET,
        error=found.error,
        traceparent=_traceparent(found),
        redacted=fields.redacted,
    )
    label = None if fields.label is None else _json(fields.label)
    return StoredStory(event, label, fields.label_observed_at, "Elasticsearch")


def _raw(text: str | None, value: Any) -> Raw | None:
    """A value as it was sent: its text, or what the index holds as fields."""
    if text is not None:
        return _json(text)
    return None if value is None else Raw(msgspec.json.encode(value))


def _json(text: str) -> Raw:
    """A text as JSON: as it is if it is JSON, else as a string."""
    encoded = text.encode()
    try:
        msgspec.json.decode(encoded)
    except (ValueError, RecursionError):
        return Raw(msgspec.json.encode(text))
    return Raw(encoded)


def _traceparent(source: _Source) -> str | UnsetType:
    if source.trace is None:
        return UNSET
    return f"00-{source.trace.id}-{'0' * 16 if source.span is None else source.span.id}-01"

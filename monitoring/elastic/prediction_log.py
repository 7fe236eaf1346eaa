"""`inference-logs-*` as a `PredictionLog`: reads, labels and appends to what the indexer wrote."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, TypeVar

import msgspec
from elasticsearch import Elasticsearch, NotFoundError, TransportError
from msgspec import UNSET, Raw, Struct, UnsetType

from machine_learning_engineering.core.timestamps import to_microseconds
from machine_learning_engineering.events.schemas import Error, Timestamp
from machine_learning_engineering.prediction_log.store import (
    NotLogged,
    PredictionLog,
    PredictionLogError,
    PredictionRecord,
    encode_label,
)
from machine_learning_engineering.settings import redact_url
from monitoring.documents.log import (
    INDEX_PATTERN,
    Document,
    document_id,
    encode,
    index_name,
    label_fields,
    to_fields,
)
from monitoring.documents.prediction_record import logged_event
from monitoring.elastic import scan
from monitoring.elastic.bulk import BulkSender, action, chunks
from monitoring.elastic.client import FAILURES, connect, quote_path, request
from monitoring.elastic.templates import ForeignTemplate, put_templates
from monitoring.settings import ElasticsearchSettings

_PAGE = 1_000
_encode_json = msgspec.json.encode
T = TypeVar("T")


class _Model(Struct):
    name: str
    version: str = ""


class _Inflight(Struct):
    """The part of `InflightFields` that is read; `features` and `prediction` as plain JSON values."""

    request_id: str
    model: _Model
    outcome: str
    score_seconds: float
    batch_size: int
    features: Any = UNSET
    features_text: str | UnsetType = UNSET
    prediction: Any = UNSET
    prediction_text: str | UnsetType = UNSET
    label: str | UnsetType = UNSET
    label_source: str | UnsetType = UNSET
    redacted: list[str] | UnsetType = UNSET


class _Source(Struct):
    timestamp: Timestamp = msgspec.field(name="@timestamp")
    inflight: _Inflight
    error: Error | UnsetType = UNSET


class ElasticsearchPredictionLog(PredictionLog, AbstractContextManager["ElasticsearchPredictionLog"]):
    """`inference-logs-*` as a `PredictionLog`. Threads and processes may share it.

    Elasticsearch has no transactions, so a reader may see part of a batch that is being appended. If a document is
    rejected, its batch is deleted again; if Elasticsearch becomes unreachable meanwhile, part of it may stay, and
    appending it again adds the rest. One request id on two UTC days is two documents.

    Args:
        settings: access to Elasticsearch, and the size of bulk requests. Nothing is sent before the first call.
        client: used instead of an own one, and not closed.
    """

    def __init__(self, settings: ElasticsearchSettings, *, client: Elasticsearch | None = None) -> None:
        self._settings = settings
        self._client = connect(settings) if client is None else client
        self._sender = BulkSender(self._client, settings.elasticsearch_batch_bytes)
        self._owned = client is None
        self._prepared = False

    def append(self, records: Iterable[PredictionRecord]) -> int:
        """See `PredictionLog.append`."""
        entries: dict[tuple[str, str], bytes] = {}
        for record in records:
            address = index_name(record.created_at), document_id(record.request_id)
            if address not in entries:
                entries[address] = action("create", *address) + b"\n" + encode(_document(record))
        if not entries:
            return 0
        created: list[tuple[str, str]] = []
        settings = self._settings
        try:
            self._prepare()
            for chunk in chunks(
                list(entries.items()),
                settings.elasticsearch_batch_bytes,
                lambda entry: len(entry[1]),
                settings.elasticsearch_batch_records,
            ):
                items = self._ask(lambda chunk=chunk: self._sender.send([entry for _, entry in chunk]), "written")  # type: ignore[misc]
                created += [address for (address, _), item in zip(chunk, items, strict=True) if item.status < 300]
                # 409: the document exists already.
                rejected = [item for item in items if item.status >= 300 and item.status != 409]
                if rejected:
                    raise self._failure("written", rejected[0].error or rejected[0].status)
        except PredictionLogError as error:
            self._take_back(created, error)
            raise
        return len(created)

    def read(
        self,
        model: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        version: str | None = None,
    ) -> Iterator[PredictionRecord]:
        """See `PredictionLog.read`. Records appended meanwhile may be among them."""
        conditions: list[dict[str, Any]] = [{"term": {"inflight.model.name": model}}]
        if version is not None:
            conditions.append({"term": {"inflight.model.version": version}})
        # Elasticsearch keeps milliseconds, so it finds slightly too many.
        if since is not None:
            conditions.append({"range": {"@timestamp": {"gte": _milliseconds(since), "format": "epoch_millis"}}})
        if until is not None:
            conditions.append({"range": {"@timestamp": {"lt": _milliseconds(until) + 1, "format": "epoch_millis"}}})
        self._refresh()
        # Hits of the same millisecond are few, and are sorted here.
        for _, hits in groupby(self._hits(conditions), key=lambda hit: hit["sort"][0]):
            records = sorted(map(self._record, hits), key=lambda record: (record.created_at, record.request_id))
            for record in records:
                if (since is None or since <= record.created_at) and (until is None or record.created_at < until):
                    yield record

    def label(self, request_id: str, label: Any) -> None:
        """See `PredictionLog.label`. Its time of observation is now, compared with labels that are reported."""
        text = encode_label(label).decode()
        found = self._find(request_id)
        if not found:
            # It may have been indexed a moment ago.
            self._refresh()
            found = self._find(request_id)
        labelled = 0
        for hit in found:
            path = f"/{quote_path(hit['_index'])}/_update/{quote_path(hit['_id'])}"
            try:
                now = datetime.now(UTC)
                body = {"doc": {"inflight": label_fields(text, now, now)}}
                request(self._client, "POST", path, body, retry_on_conflict="5")
                labelled += 1
            except NotFoundError:  # deleted meanwhile
                continue
            except FAILURES as error:
                raise self._failure("written", error) from error
        if not labelled:
            url = redact_url(self._settings.elasticsearch_url)
            raise NotLogged(f"request {request_id!r} is not in the prediction log {url}")

    def close(self) -> None:
        """Close the connections; the log can't be used afterwards."""
        if self._owned:
            self._client.close()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _prepare(self) -> None:
        """Put the templates: without them Elasticsearch would guess the types of the day's index."""
        if not self._prepared:
            self._ask(lambda: put_templates(self._client, self._settings), "written")
            self._prepared = True

    def _take_back(self, created: list[tuple[str, str]], error: PredictionLogError) -> None:
        if not created:
            return
        try:
            self._sender.delete(created)
        except FAILURES as failure:
            error.add_note(f"{len(created)} records of the batch stay in the log, since deleting failed: {failure}")

    def _hits(self, conditions: list[dict[str, Any]]) -> Iterator[scan.Hit]:
        """All hits. Time and request id are a complete order: an id is unique in the index of its day."""
        body: dict[str, Any] = {
            "size": _PAGE,
            "track_total_hits": False,
            "sort": [{"@timestamp": "asc"}, {"inflight.request_id": "asc"}],
            "query": {"bool": {"filter": conditions}},
        }
        return scan.pages(self._page, body)

    def _page(self, body: dict[str, Any]) -> list[scan.Hit]:
        found = self._search(body)
        if not all(isinstance(hit.get("sort"), list) and hit["sort"] for hit in found):
            raise self._failure("read", "a search response without the values that it was sorted by")
        return found

    def _search(self, body: dict[str, Any]) -> list[scan.Hit]:
        return self._ask(lambda: scan.hits(self._client, INDEX_PATTERN, body), "read")

    def _find(self, request_id: str) -> list[scan.Hit]:
        return self._search({"size": _PAGE, "_source": False, "query": {"term": {"inflight.request_id": request_id}}})

    def _record(self, hit: dict[str, Any]) -> PredictionRecord:
        try:
            return _logged(msgspec.convert(hit["_source"], _Source))
        except (ValueError, KeyError, TypeError) as error:
            where = f"{hit.get('_index')}/{hit.get('_id')}"
            raise self._failure("read", f"document {where} was not written by Inflight: {error}") from error

    def _refresh(self) -> None:
        self._ask(lambda: request(self._client, "POST", f"/{INDEX_PATTERN}/_refresh"), "read")

    def _ask(self, send: Callable[[], T], verb: str) -> T:
        try:
            return send()
        except (*FAILURES, ForeignTemplate) as error:
            raise self._failure(verb, error) from error

    def _failure(self, verb: str, cause: object) -> PredictionLogError:
        hint = "; is Elasticsearch running? `inflight status` shows it" if isinstance(cause, TransportError) else ""
        return PredictionLogError(
            f"the prediction log {redact_url(self._settings.elasticsearch_url)} can't be {verb}: {cause}{hint}"
        )


def _document(record: PredictionRecord) -> Document:
    """The document that the indexer would write if the request had come from a topic."""
    document = to_fields(logged_event(record))
    label = UNSET if record.label is UNSET else bytes(record.label).decode()
    labelled = UNSET if label is UNSET else True
    inflight = msgspec.structs.replace(
        document.inflight, kafka=UNSET, label=label, label_source=record.label_source, labelled=labelled
    )
    return msgspec.structs.replace(document, inflight=inflight)


def _logged(source: _Source) -> PredictionRecord:
    fields = source.inflight
    text = fields.features_text
    features = _sent(text) if isinstance(text, str) else _encode_json(fields.features)
    outcome: Any = fields.outcome
    return PredictionRecord(
        request_id=fields.request_id,
        model=fields.model.name,
        model_version=fields.model.version,
        outcome=outcome,
        features=Raw(features),
        created_at=source.timestamp,
        score_seconds=fields.score_seconds,
        batch_size=fields.batch_size,
        prediction=_prediction(fields),
        error=source.error,
        label=UNSET if isinstance(fields.label, UnsetType) else Raw(fields.label.encode()),
        label_source=fields.label_source or UNSET,
        redacted=fields.redacted,
    )


def _prediction(fields: _Inflight) -> Raw | UnsetType:
    if isinstance(fields.prediction_text, str):
        return Raw(fields.prediction_text.encode())
    return UNSET if fields.prediction is UNSET else Raw(_encode_json(fields.prediction))


def _sent(text: str) -> bytes:
    """Features as sent or, if they are not JSON, as a JSON string."""
    sent = text.encode()
    try:
        msgspec.json.decode(sent)
    except (msgspec.MsgspecError, RecursionError):
        return _encode_json(text)
    return sent


def _milliseconds(moment: datetime) -> int:
    return to_microseconds(moment) // 1_000

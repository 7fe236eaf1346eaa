"""The deployment's log behind the port of data scientists: what the indexer wrote is read, labelled and added to."""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Self, TypeVar

import msgspec
from elasticsearch import Elasticsearch, NotFoundError, TransportError
from msgspec import UNSET, Raw, Struct, UnsetType

from machine_learning_engineering.core.timestamps import aware
from machine_learning_engineering.events.schemas import Error, PredictionLogged
from machine_learning_engineering.prediction_log.store import (
    NotLogged,
    PredictionLogError,
    PredictionRecord,
    encode_label,
)
from machine_learning_engineering.settings import redact_url
from monitoring.documents.log import INDEX_PATTERN, Document, document_id, encode, index_name, to_fields
from monitoring.elastic import bulk, scan, templates
from monitoring.elastic import client as search
from monitoring.labels.store import label_fields
from monitoring.runtime.retry import FAILURES
from monitoring.settings import ElasticsearchSettings

_PAGE = 1_000
_MILLISECOND = timedelta(milliseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode_json = msgspec.json.encode
Answer = TypeVar("Answer")


class _Model(Struct):
    name: str
    version: str = ""


class _Inflight(Struct):
    """What of `documents.log.InflightFields` is read; `features` and `prediction` as plain JSON values."""

    request_id: str
    model: _Model
    outcome: str
    score_seconds: float
    batch_size: int
    features: Any = UNSET
    features_text: str | UnsetType = UNSET
    prediction: Any = UNSET
    label: str | UnsetType = UNSET
    redacted: list[str] | UnsetType = UNSET


class _Source(Struct):
    timestamp: datetime = msgspec.field(name="@timestamp")
    inflight: _Inflight
    error: Error | UnsetType = UNSET


class ElasticsearchPredictionLog:
    """`inference-logs-*` as a `PredictionLog`; several threads and processes may use it at once.

    Elasticsearch has no transactions, so a reader may see part of a batch that is being appended. A batch in which a
    document is refused is taken back; if the node is lost meanwhile, some of it may stay, and appending it again adds
    the rest. One request id on two UTC days is two documents.

    Args:
        settings: `elasticsearch_url` and what goes with it. Nothing is asked of the node before the first call.
        client: used in place of one of its own, and left open.
    """

    def __init__(self, settings: ElasticsearchSettings, *, client: Elasticsearch | None = None) -> None:
        self._settings = settings
        self._client = search.connect(settings) if client is None else client
        self._owned = client is None
        self._prepared = False

    def append(self, records: Iterable[PredictionRecord]) -> int:
        """See `PredictionLog.append`."""
        entries: dict[tuple[str, str], bytes] = {}
        for record in records:
            address = index_name(record.created_at), document_id(record.request_id)
            if address not in entries:
                entries[address] = encode(_document(record))
        if not entries:
            return 0
        created: list[tuple[str, str]] = []
        try:
            self._prepare()
            for chunk in self._chunks(entries):
                body = b"".join(
                    b'{"create":{"_index":%b,"_id":%b}}\n%b\n' % (*map(_encode_json, address), entries[address])
                    for address in chunk
                )
                items = self._ask(lambda body=body: bulk.bulk(self._client, body), "written")  # type: ignore[misc]
                created += [address for address, item in zip(chunk, items, strict=True) if item["status"] < 300]
                # 409: the document is there already.
                refused = [item for item in items if item["status"] >= 300 and item["status"] != 409]
                if refused:
                    raise self._failure("written", refused[0].get("error") or refused[0]["status"])
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
        """See `PredictionLog.read`. What is appended meanwhile may be among them."""
        conditions: list[dict[str, Any]] = [{"term": {"inflight.model.name": model}}]
        if version is not None:
            conditions.append({"term": {"inflight.model.version": version}})
        # Elasticsearch keeps milliseconds, so that what it finds is a little too much.
        if since is not None:
            conditions.append({"range": {"@timestamp": {"gte": _milliseconds(since), "format": "epoch_millis"}}})
        if until is not None:
            conditions.append({"range": {"@timestamp": {"lt": _milliseconds(until) + 1, "format": "epoch_millis"}}})
        self._refresh()
        # The hits of a millisecond are put in order here. They are as many as were accepted in one.
        for _, hits in groupby(self._hits(conditions), key=lambda hit: hit["sort"][0]):
            records = sorted(map(self._record, hits), key=lambda record: (record.created_at, record.request_id))
            for record in records:
                if (since is None or since <= record.created_at) and (until is None or record.created_at < until):
                    yield record

    def label(self, request_id: str, label: Any) -> None:
        """See `PredictionLog.label`. It counts as observed now, against labels that are reported."""
        text = encode_label(label).decode()
        found = self._find(request_id)
        if not found:
            # It may have been indexed just now.
            self._refresh()
            found = self._find(request_id)
        labelled = 0
        for hit in found:
            path = f"/{search.quoted(hit['_index'])}/_update/{search.quoted(hit['_id'])}"
            try:
                body = {"doc": {"inflight": label_fields(text, datetime.now(UTC))}}
                search.call(self._client, "POST", path, body, retry_on_conflict="5")
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _prepare(self) -> None:
        """Put the templates: without them Elasticsearch would guess the fields of the day's index."""
        if not self._prepared:
            self._ask(lambda: templates.put_templates(self._client, self._settings), "written")
            self._prepared = True

    def _chunks(self, entries: dict[tuple[str, str], bytes]) -> Iterator[list[tuple[str, str]]]:
        chunk: list[tuple[str, str]] = []
        size = 0
        for address, document in entries.items():
            if chunk and (
                len(chunk) >= self._settings.elasticsearch_batch_records
                or size + len(document) > self._settings.elasticsearch_batch_bytes
            ):
                yield chunk
                chunk, size = [], 0
            chunk.append(address)
            size += len(document)
        yield chunk

    def _take_back(self, created: list[tuple[str, str]], error: PredictionLogError) -> None:
        if not created:
            return
        try:
            search.delete(self._client, created)
        except FAILURES as failure:
            error.add_note(f"{len(created)} records of the batch stay in the log, since deleting failed: {failure}")

    def _hits(self, conditions: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """All hits, page by page. Moment and id are a complete order: an id is unique in the index of its moment."""
        body: dict[str, Any] = {
            "size": _PAGE,
            "track_total_hits": False,
            "sort": [{"@timestamp": "asc"}, {"inflight.request_id": "asc"}],
            "query": {"bool": {"filter": conditions}},
        }
        while True:
            hits = self._ask(lambda: scan.hits(self._client, INDEX_PATTERN, body), "read")
            yield from hits
            if len(hits) < _PAGE:
                return
            body["search_after"] = hits[-1]["sort"]

    def _find(self, request_id: str) -> list[dict[str, Any]]:
        query = {"size": _PAGE, "_source": False, "query": {"term": {"inflight.request_id": request_id}}}
        return self._ask(lambda: scan.hits(self._client, INDEX_PATTERN, query), "read")

    def _record(self, hit: dict[str, Any]) -> PredictionRecord:
        try:
            return _logged(msgspec.convert(hit["_source"], _Source))
        except (msgspec.ValidationError, KeyError) as error:
            where = f"{hit.get('_index')}/{hit.get('_id')}"
            raise self._failure("read", f"document {where} is not of this product: {error}") from error

    def _refresh(self) -> None:
        self._ask(lambda: search.call(self._client, "POST", f"/{INDEX_PATTERN}/_refresh"), "read")

    def _ask(self, question: Callable[[], Answer], verb: str) -> Answer:
        try:
            return question()
        except FAILURES as error:
            raise self._failure(verb, error) from error

    def _failure(self, verb: str, cause: object) -> PredictionLogError:
        hint = "; is the search node up? `inflight status` tells" if isinstance(cause, TransportError) else ""
        return PredictionLogError(
            f"the prediction log {redact_url(self._settings.elasticsearch_url)} can't be {verb}: {cause}{hint}"
        )


def _document(record: PredictionRecord) -> Document:
    """The document that the indexer would write, had the request come from a topic."""
    event = PredictionLogged(
        request_id=record.request_id,
        model=record.model,
        outcome=record.outcome,
        features=record.features,
        requested_at=record.created_at,
        accepted_at=aware(record.created_at),
        completed_at=record.created_at + timedelta(seconds=record.score_seconds),
        queue_seconds=0.0,
        score_seconds=record.score_seconds,
        total_seconds=record.score_seconds,
        batch_size=record.batch_size,
        partition=-1,
        offset=-1,
        model_version=record.model_version or UNSET,
        prediction=record.prediction,
        error=record.error,
        redacted=record.redacted,
    )
    document = to_fields(event)
    label = UNSET if record.label is UNSET else bytes(record.label).decode()
    known = UNSET if label is UNSET else True
    inflight = msgspec.structs.replace(document.inflight, kafka=UNSET, label=label, labelled=known)
    return msgspec.structs.replace(document, inflight=inflight)


def _logged(source: _Source) -> PredictionRecord:
    found = source.inflight
    features = _sent(found.features_text) if isinstance(found.features_text, str) else _encode_json(found.features)
    outcome: Any = found.outcome
    return PredictionRecord(
        request_id=found.request_id,
        model=found.model.name,
        model_version=found.model.version,
        outcome=outcome,
        features=Raw(features),
        created_at=source.timestamp,
        score_seconds=found.score_seconds,
        batch_size=found.batch_size,
        prediction=UNSET if found.prediction is UNSET else Raw(_encode_json(found.prediction)),
        error=source.error,
        label=UNSET if isinstance(found.label, UnsetType) else Raw(found.label.encode()),
        redacted=found.redacted,
    )


def _sent(text: str) -> bytes:
    """Features as they were sent, or, where they are no JSON, a JSON text that quotes them."""
    sent = text.encode()
    try:
        msgspec.json.decode(sent)
    except (msgspec.MsgspecError, RecursionError):
        return _encode_json(text)
    return sent


def _milliseconds(moment: datetime) -> int:
    return (aware(moment) - _EPOCH) // _MILLISECOND

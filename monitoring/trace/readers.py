"""Reads what is known of one request: its records on all topics, its documents, and committed offsets.

Every topic is read from its start (or from a time) to its present end, in all partitions: the key, and with it the
partition, is the producer's affair. A record without the bytes of the id is not decoded. An unreadable value counts as
a request of that id if it names it all the same, or if its key equals it.
"""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache, partial
from typing import Any

import msgspec
from confluent_kafka import KafkaException, Message, TopicPartition
from msgspec import UNSET, Raw, Struct, UnsetType

from machine_learning_engineering.core.timestamps import datetime_of_milliseconds
from machine_learning_engineering.dead_letters.letter import read_origin
from machine_learning_engineering.dead_letters.reader import Address
from machine_learning_engineering.events import schemas
from machine_learning_engineering.events.fingerprint import fingerprint
from machine_learning_engineering.events.headers import headers_of, traceparent_of
from machine_learning_engineering.events.schemas import SourcePosition
from machine_learning_engineering.events.topics import DEAD_LETTERS, LABELS, LOGS, REQUESTS, RESULTS, SHADOWS
from machine_learning_engineering.kafka.client import end_offsets, read_to_end, topic_name, unpolled_consumer
from monitoring.documents.log import INDEX_PATTERN, document_id, index_name
from monitoring.elastic import client as elastic
from monitoring.elastic import scan
from monitoring.runtime.sources import Source, Sources, unprefixed
from monitoring.settings import ElasticsearchSettings
from monitoring.trace.details import arm_details, document_details
from monitoring.trace.path import Document, Path, Position, Repeat, Stage, Step, build_path

MAX_STEPS = 100
"""Records of one topic that a path holds; further ones are counted."""
_UNKNOWN_TIME = datetime(1970, 1, 1, tzinfo=UTC)
BROKER_SECONDS = 10.0
ELASTICSEARCH_SECONDS = 10.0

Progress = Callable[[str, int], None]
"""Told the topic that is being read, and how many of its records have been."""

_Found = tuple[dict[str, Any], Position | None, object]
"""Details of a record, the position of the record that it is about, and what equal records have in common."""


class _Request(Struct):
    request_id: str = ""
    model: str = ""
    features: Raw = Raw(b"null")
    requested_at: datetime | UnsetType = UNSET


_decode_request = msgspec.json.Decoder(_Request).decode


class RequestReader:
    """Reads the records about one request.

    Args:
        values: show features, predictions and labels; otherwise their sizes.
        sources: existing topics whose records are requests.
    """

    def __init__(
        self,
        settings: ElasticsearchSettings,
        request_id: str,
        *,
        values: bool = False,
        sources: Sources | None = None,
    ) -> None:
        self._settings = settings
        self._sources = sources or Sources()
        # Existing topics, whose names are whole.
        self._whole_names = {topic for one in self._sources for topic in (one.topic, one.own_results) if topic}
        self._id = request_id
        self._values = values
        self._key = request_id.encode()
        # In JSON: our encoder writes UTF-8, others escape characters outside ASCII.
        self._needles = tuple({msgspec.json.encode(request_id)[1:-1], json.dumps(request_id)[1:-1].encode()})
        self._named = re.compile(rb'"request_id"\s*:\s*"(?:%b)"' % b"|".join(map(re.escape, self._needles)))
        self._prefix = len(settings.topic_prefix)
        self._positions: set[Position] = set()
        self.omitted: dict[str, int] = {}
        self.indices: set[str] = set()
        """Where its document is, by the days on which it was accepted."""

    def steps(self, since: datetime | None = None, progress: Progress = lambda _topic, _count: None) -> Iterator[Step]:
        """The records about the request, topic by topic: at most `MAX_STEPS` of each.

        Raises:
            TimeoutError: a topic could not be read to its end.
            confluent_kafka.KafkaException: the broker is unreachable.
        """
        # Fails fast, unlike the reader, which waits longer for a slow broker.
        end_offsets(self._settings, REQUESTS, timeout=BROKER_SECONDS)
        own = [one for one in self._sources if one.own_results]
        topics: tuple[tuple[str, Stage, Callable[[Message], _Found | None]], ...] = (
            (REQUESTS, "request", self._request),
            *((one.topic, "request", partial(self._request_of, one)) for one in self._sources),
            (RESULTS, "result", self._result),
            *((one.own_results, "result", partial(self._result_of, one)) for one in own),
            (LOGS, "log", self._log),
            (SHADOWS, "shadow", self._shadow),
            (DEAD_LETTERS, "dead_letter", self._dead_letter),
            (LABELS, "label", self._label),
        )
        for topic, stage, read in topics:
            first: object = None
            seen = 0
            settings = unprefixed(self._settings) if topic in self._whole_names else self._settings
            for count, record in enumerate(read_to_end(settings, topic, since=since)):
                if count % 10_000 == 0:
                    progress(topic_name(settings, topic), count)
                # The origin of a dead letter is in its headers; the id of a source's record may be anywhere.
                if topic != DEAD_LETTERS and stage != "request" and not self._mentions(record):
                    continue
                if (found := read(record)) is None:
                    continue
                details, origin, content = found
                position = Position(topic, record.partition(), record.offset())
                seen += 1
                if seen == 1:
                    first = content
                if seen > MAX_STEPS:
                    self.omitted[stage] = seen - MAX_STEPS
                    continue
                self._positions.add(position)
                # A record without a usable time is a dead letter, or not ours.
                at = datetime_of_milliseconds(record.timestamp()[1]) or _UNKNOWN_TIME
                if stage == "request":
                    self.indices.add(index_name(at))
                repeat: Repeat | None = None
                if seen > 1 and stage != "dead_letter":
                    repeat = "equal" if content == first else "different"
                yield Step(at, stage, position, details, origin, repeat)

    def _mentions(self, record: Message) -> bool:
        value = record.value() or b""
        return record.key() == self._key or any(needle in value for needle in self._needles)

    def _request_of(self, source: Source, record: Message, place: SourcePosition | None = None) -> _Found | None:
        found = source.read(record, self._settings.max_request_bytes, place)
        if found is None or found.request_id != self._id:
            return None
        details: dict[str, Any] = {"model": source.model, "bytes": len(record.value() or b"")}
        if traceparent := traceparent_of(headers_of(record)):
            details["traceparent"] = traceparent
        return details | self._value("features", found.features), None, fingerprint(source.model, found.features)

    def _result_of(self, source: Source, record: Message) -> _Found | None:
        try:
            return self._outcome(schemas.decode_result(source.result_of(record.value() or b"")))
        except (ValueError, RecursionError):
            return None

    def _request(self, record: Message) -> _Found | None:
        if (again := self._sources.sent_again(record)) is not None:
            return self._request_of(again[0], record, again[1])
        if not self._mentions(record):
            return None
        value = record.value() or b""
        details: dict[str, Any] = {"bytes": len(value)}
        if traceparent := traceparent_of(headers_of(record)):
            details["traceparent"] = traceparent
        try:
            view = _decode_request(value)
        except (ValueError, RecursionError):
            named = record.key() == self._key or self._named.search(value)
            return ({"unreadable": True} | details, None, value) if named else None
        if view.request_id != self._id and (view.request_id or record.key() != self._key):
            return None
        details = {"model": view.model} | details | self._value("features", view.features)
        return details, None, fingerprint(view.model, view.features)

    def _result(self, record: Message) -> _Found | None:
        event = self._decoded(schemas.decode_result, record)
        return None if event is None else self._outcome(event)

    def _outcome(self, event: schemas.Result) -> _Found | None:
        if event.request_id != self._id:
            return None
        details = {"model": event.model, "model_version": event.model_version or None} | arm_details(event.rollout)
        if isinstance(event, schemas.PredictionCompleted):
            outcome = {"outcome": "completed"} | details
            return outcome | self._value("prediction", event.prediction), None, (event.model, bytes(event.prediction))
        error = {"error_type": event.error.type, "error_message": event.error.message}
        return {"outcome": "failed"} | details | error, None, (event.model, event.error)

    def _log(self, record: Message) -> _Found | None:
        if (event := self._decoded(schemas.decode_log, record)) is None:
            return None
        self.indices.add(index_name(event.accepted_at))
        details: dict[str, Any] = {"outcome": event.outcome, "model": event.model}
        details |= {"model_version": event.model_version or None} | arm_details(event.rollout)
        for name in ("queue_seconds", "score_seconds", "total_seconds", "batch_size"):
            details[name] = getattr(event, name)
        details |= self._value("features", event.features)
        if event.prediction is not UNSET:
            details |= self._value("prediction", event.prediction)
        if event.error is not UNSET:
            details |= {"error_type": event.error.type, "error_message": event.error.message}
        if event.redacted is not UNSET:
            details["redacted"] = event.redacted
        content = event.outcome, event.model, bytes(event.prediction) if event.prediction is not UNSET else event.error
        return details, Position(event.topic or REQUESTS, event.partition, event.offset), content

    def _shadow(self, record: Message) -> _Found | None:
        if (event := self._decoded(schemas.decode_shadow, record)) is None:
            return None
        details = {"outcome": event.outcome, "model": event.model, "model_version": event.shadow_version}
        details |= {"role": event.role, "rollout": event.rollout_id}
        if event.shadow_prediction is not UNSET:
            details |= self._value("prediction", event.shadow_prediction)
        return details, None, (event.rollout_id, event.role, event.outcome, event.shadow_prediction)

    def _dead_letter(self, record: Message) -> _Found | None:
        try:
            origin = read_origin(headers_of(record))
        except ValueError:
            return None
        topic = origin.topic if origin.topic in self._whole_names else origin.topic[self._prefix :]
        position = Position(topic, origin.partition, origin.offset)
        hinted = origin.request_id is None and record.key() == self._key
        if position not in self._positions and self._id != origin.request_id and not hinted:
            return None
        address = str(Address(record.partition(), record.offset()))
        details: dict[str, Any] = {"address": address, "reason": origin.reason, "stage": origin.stage}
        details |= {"message": origin.message, "model": origin.model, "bytes": len(record.value() or b"")}
        return {name: value for name, value in details.items() if value is not None}, position, None

    def _label(self, record: Message) -> _Found | None:
        if (event := self._decoded(schemas.decode_label, record)) is None:
            return None
        details = {"model": event.model, "observed_at": event.observed_at} | self._value("label", event.label)
        return details, None, bytes(event.label)

    def _decoded(self, decode: Callable[[bytes], Any], record: Message) -> Any:
        """The event; None if the record is no such event or about another request."""
        try:
            event = decode(record.value() or b"")
        except (ValueError, RecursionError):
            return None
        return event if event.request_id == self._id else None

    def _value(self, name: str, value: Raw) -> dict[str, Any]:
        return {name: value} if self._values else {f"{name}_bytes": len(value)}


def trace(
    settings: ElasticsearchSettings,
    request_id: str,
    *,
    values: bool = False,
    since: datetime | None = None,
    progress: Progress = lambda _topic, _count: None,
    sources: Sources | None = None,
) -> Path:
    """The path of a request through all topics, with its documents in Elasticsearch if that responds.

    Args:
        values: show features, predictions and labels; otherwise their sizes.
        since: skip records with an earlier timestamp.
        sources: existing topics whose records are requests.

    Raises:
        TimeoutError: a topic could not be read to its end.
        confluent_kafka.KafkaException: the broker is unreachable.
    """
    sources = sources or Sources()
    reader = RequestReader(settings, request_id, values=values, sources=sources)
    steps = list(reader.steps(since, progress))
    progress("Elasticsearch", 0)
    found = read_documents(settings, request_id, reader.indices, values=values)
    return build_path(request_id, steps, reader.omitted, found, lru_cache(partial(committed_offset, settings, sources)))


def read_documents(
    settings: ElasticsearchSettings, request_id: str, indices: set[str], *, values: bool = False
) -> list[Document] | str:
    """The documents of a request, or why Elasticsearch could not be asked.

    Args:
        indices: those in which a document is found before a search can see it; others are searched.
    """
    name = document_id(request_id)
    try:
        with elastic.connect(settings, timeout=ELASTICSEARCH_SECONDS) as client:
            known = scan.documents(client, [(index, name) for index in sorted(indices)])
            query = {"query": {"ids": {"values": [name]}}, "size": MAX_STEPS}
            hits = [doc for doc in known if doc is not None] + scan.hits(client, INDEX_PATTERN, query)
            unique = {(hit["_index"], hit["_id"]): hit["_source"] for hit in reversed(hits)}
            return [Document(*address, document_details(source, values)) for address, source in sorted(unique.items())]
    except (*elastic.FAILURES, ValueError, KeyError, TypeError, AttributeError) as error:
        # ValueError: the setting is no URL. The others: the response is not one of Elasticsearch.
        return f"Elasticsearch did not respond as expected ({type(error).__name__}: {error!s:.200})"


def committed_offset(
    settings: ElasticsearchSettings, sources: Sources, group: str, topic: str, partition: int
) -> int | None:
    """The offset that a consumer group has committed, asked without joining it; None if it has committed none."""
    consumer = unpolled_consumer(settings, group)
    try:
        is_source = any(topic == one.topic for one in sources)
        asked = [TopicPartition(topic if is_source else topic_name(settings, topic), partition)]
        (committed,) = consumer.committed(asked, timeout=BROKER_SECONDS)
    except KafkaException:
        return None
    finally:
        consumer.close()
    return committed.offset if committed.offset >= 0 else None

"""Reads the input of the audit: topics from the first record to their current end, and the ids in the index."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import chain
from typing import TypeVar

from confluent_kafka import Message, TopicPartition
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.json import Decoder

from machine_learning_engineering.dead_letters.letter import read_origin
from machine_learning_engineering.dead_letters.writer import STAGE
from machine_learning_engineering.declaration.mapping import MappedRecord
from machine_learning_engineering.events.fingerprint import fingerprint
from machine_learning_engineering.events.headers import headers_of
from machine_learning_engineering.events.schemas import decode_request
from machine_learning_engineering.events.topics import DEAD_LETTERS, LOGS, REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import end_offsets, read_to_end, topic_name, unpolled_consumer
from machine_learning_engineering.settings import KernelSettings
from monitoring.audit.audit import Audit, Letter, Log, Request, Result, audit
from monitoring.audit.heads import Heads, SourceHead, TopicHead
from monitoring.documents.log import INDEX_PATTERN
from monitoring.elastic import client as elastic
from monitoring.elastic import scan
from monitoring.runtime.groups import WORKER
from monitoring.runtime.sources import Source, Sources, unprefixed
from monitoring.settings import ElasticsearchSettings


class _RequestView(Struct, frozen=True):
    request_id: str
    model: str = ""
    features: Raw = Raw(b"null")


class _ResultView(Struct, frozen=True):
    type: str
    request_id: str
    model: str
    completed_at: datetime
    model_version: str | UnsetType = UNSET
    prediction: Raw = Raw()
    error: Raw = Raw()
    source: Raw | UnsetType = UNSET


class _LogView(Struct, frozen=True):
    request_id: str
    total_seconds: float
    partition: int = -1
    offset: int = -1
    topic: str | UnsetType = UNSET


_T = TypeVar("_T")

Progress = Callable[[str], None]
"""Called with the name of each source before it is read."""

_decode_request = Decoder(_RequestView).decode
_decode_result = Decoder(_ResultView).decode
_decode_log = Decoder(_LogView).decode
_COMPLETED = "prediction.completed.v1"


def _records(settings: KernelSettings, topic: str, head: TopicHead | None) -> Iterator[Message]:
    for record in read_to_end(settings, topic):
        if head is not None:
            head.note(record.partition(), record.timestamp()[1] / 1000)
        yield record


def requests(
    settings: KernelSettings, prefix: str = "", head: TopicHead | None = None, sources: Sources | None = None
) -> Iterator[Request]:
    """The request records. The id is in the value alone: the key belongs to the producer."""
    for record in _records(settings, REQUESTS, head):
        value, body, request_id = record.value() or b"", None, None
        if sources is not None and (again := sources.sent_again(record)) is not None:
            source, place = again
            yield from _mapped(record, source, source.read(record, settings.max_request_bytes, place), prefix)
            continue
        try:
            view = _decode_request(value)
        except (ValueError, RecursionError):
            pass
        else:
            request_id, body = view.request_id, fingerprint(view.model, view.features)
        if (request_id or "").startswith(prefix):
            accepted_at = record.timestamp()[1] / 1000
            position = record.topic(), record.partition(), record.offset()
            yield Request(*position, request_id, body, accepted_at, _is_readable(value, settings.max_request_bytes))


def _mapped(record: Message, source: Source, found: MappedRecord | None, prefix: str) -> Iterator[Request]:
    """The request in a record of a source."""
    position = record.topic() or "", record.partition() or 0, record.offset() or 0
    accepted_at = record.timestamp()[1] / 1000
    if found is None:
        if not prefix:
            yield Request(*position, None, None, accepted_at, readable=False)
    elif found.request_id.startswith(prefix):
        yield Request(*position, found.request_id, fingerprint(source.model, found.features), accepted_at)


def source_requests(settings: KernelSettings, source: Source, prefix: str, head: SourceHead) -> Iterator[Request]:
    """The records of an existing topic from where the workers began on. Tombstones ask for nothing."""
    for record in _records(unprefixed(settings), source.topic, head.requests):
        if record.value() is not None and (record.offset() or 0) >= head.starts.get(record.partition() or 0, 0):
            yield from _mapped(record, source, source.read(record, settings.max_request_bytes), prefix)


def own_results(settings: KernelSettings, source: Source, prefix: str, head: TopicHead) -> Iterator[Result]:
    """The records of a source's own topic of results that hold one. Others may write to it too."""
    for record in _records(unprefixed(settings), source.own_results, head):
        with contextlib.suppress(ValueError, RecursionError):
            yield from _result(_decode_result(source.result_of(record.value() or b"")), record, prefix)


def _result(view: _ResultView, record: Message, prefix: str) -> Iterator[Result]:
    if view.request_id.startswith(prefix):
        content = hash((view.type, view.model, bytes(view.prediction), bytes(view.error)))
        # Few versions, many results: store each name once.
        version = sys.intern(view.model_version or "")
        completed, at = view.type == _COMPLETED, view.completed_at.timestamp()
        of_source = view.source is not UNSET
        yield Result(view.request_id, completed, content, at, version, record.partition() or 0, of_source)


def _is_readable(value: bytes, max_bytes: int) -> bool:
    if len(value) > max_bytes:
        return False
    try:
        decode_request(value)
    except (ValueError, RecursionError):
        return False
    return True


def results(settings: KernelSettings, prefix: str = "", head: TopicHead | None = None) -> Iterator[Result]:
    """The result records. An undecodable one has no id, so it counts as an orphan."""
    for record in _records(settings, RESULTS, head):
        try:
            view = _decode_result(record.value() or b"")
        except (ValueError, RecursionError):
            if not prefix:
                yield Result("", False, None, 0.0, "", record.partition())
            continue
        yield from _result(view, record, prefix)


def dead_letters(settings: KernelSettings, head: TopicHead | None = None) -> Iterator[Letter]:
    """The dead letters of requests and logs. Records without an origin in their headers are not ours."""
    logs = topic_name(settings, LOGS)
    for record in _records(settings, DEAD_LETTERS, head):
        try:
            origin = read_origin(headers_of(record))
        except ValueError:
            continue
        # Of the indexer's dead letters only logs concern a request's document.
        if origin.stage == STAGE and origin.topic != logs:
            continue
        yield Letter(origin.topic, origin.partition, origin.offset, origin.stage, origin.request_id)


def logs(settings: KernelSettings, prefix: str = "") -> Iterator[Log]:
    """The decodable log records; the others become dead letters of the indexer."""
    for record in read_to_end(settings, LOGS):
        try:
            view = _decode_log(record.value() or b"")
        except (ValueError, RecursionError):
            continue
        if view.request_id.startswith(prefix):
            of_source = view.topic is not UNSET
            yield Log(view.request_id, view.total_seconds, view.partition, view.offset, of_source)


def run_audit(
    settings: ElasticsearchSettings,
    prefix: str = "",
    *,
    index: bool = True,
    progress: Progress = lambda _reading: None,
    sources: Sources | None = None,
) -> Audit:
    """Audit the current state of a deployment. Requests in progress count as lost or not indexed: wait for them first.

    Args:
        prefix: only request ids with this prefix, to separate one run from others on the same topics. Records whose
            id can't be read are left out.
        index: whether to read the index too.
        sources: existing topics whose records are requests.

    Raises:
        TimeoutError: a topic was not read to its end.
        confluent_kafka.KafkaException: the broker is unreachable.
        elasticsearch.ApiError, elasticsearch.TransportError: the index cannot be read.
    """

    def with_progress(reading: str, records: Iterator[_T]) -> Iterator[_T]:
        progress(reading)
        yield from records

    ids, indexed_since = None, 0.0
    if index:
        progress("the index")
        with elastic.connect(settings) as client:
            ids = list(scan.indexed_ids(client, prefix))
            indexed_since = _oldest_day(elastic.index_names(client, INDEX_PATTERN))
    # Before they are read: records that are deleted meanwhile count as deleted before.
    heads = _heads(settings, whole=not prefix)
    sources = sources or Sources()
    of_sources = {source.topic: source_head(settings, source, heads, whole=not prefix) for source in sources}
    asked = [with_progress(topic_name(settings, REQUESTS), requests(settings, prefix, heads.requests, sources))]
    answered = [with_progress(topic_name(settings, RESULTS), results(settings, prefix, heads.results))]
    for source in sources:
        head = of_sources[source.topic]
        asked.append(with_progress(source.topic, source_requests(settings, source, prefix, head)))
        if source.own_results:
            answered.append(with_progress(source.own_results, own_results(settings, source, prefix, head.results)))
    return audit(
        chain.from_iterable(asked),
        chain.from_iterable(answered),
        with_progress(topic_name(settings, DEAD_LETTERS), dead_letters(settings, heads.dead_letters)),
        with_progress(topic_name(settings, LOGS), logs(settings, prefix)),
        ids,
        heads=heads,
        indexed_since=indexed_since,
        sources=of_sources,
    )


def source_head(settings: KernelSettings, source: Source, heads: Heads, *, whole: bool) -> SourceHead:
    """What retention has taken of a source, and of its results."""
    found = source.starts(settings)
    ends = end_offsets(unprefixed(settings), source.topic)
    # What came before the workers began is no request.
    marks = {p: (ends[p][0] if ends[p][0] > start else 0, high) for p, (start, high, _) in found.items()}
    own = TopicHead(end_offsets(unprefixed(settings), source.own_results)) if source.own_results else heads.results
    return SourceHead(
        TopicHead(marks),
        own,
        heads.dead_letters,
        committed={p: committed for p, (_, _, committed) in found.items() if committed is not None},
        whole=whole,
        starts={p: start for p, (start, _, _) in found.items()},
    )


def _heads(settings: KernelSettings, *, whole: bool) -> Heads:
    topics = [TopicHead(end_offsets(settings, topic)) for topic in (REQUESTS, RESULTS, DEAD_LETTERS, LOGS)]
    asked = [TopicPartition(topic_name(settings, REQUESTS), partition) for partition in topics[0].marks]
    consumer = unpolled_consumer(settings, WORKER)
    try:
        found = consumer.committed(asked, timeout=30.0) if asked else []
    finally:
        consumer.close()
    # Negative: the group has committed nothing.
    committed = {tp.partition: tp.offset for tp in found if tp.error is None and tp.offset >= 0}
    return Heads(*topics, committed=committed, whole=whole)


def _oldest_day(indices: list[str]) -> float:
    """Start of the oldest day that has an index, in seconds since 1970; 0 without any."""
    days = []
    for name in indices:
        try:
            days.append(datetime.strptime(name.rpartition("-")[2] + "Z", "%Y.%m.%d%z").timestamp())
        except ValueError:  # not an index of Inflight
            continue
    return min(days, default=0.0)

"""Publishing prediction requests, at a fixed rate or as fast as possible."""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from machine_learning_engineering.events.topics import MAX_MESSAGE_BYTES, REQUESTS, TOPICS
from machine_learning_engineering.kafka.client import end_offsets, topic_name
from producers.client import MissingTopic, connect, disconnect, partition_of
from producers.publisher import Errors, Outcome, Publisher, ignore
from producers.rate_limiter import RateLimiter
from producers.request_builder import Record, RequestBuilder, Source, with_trace
from producers.settings import ProducerSettings
from producers.shift import Shift
from producers.stop_signal import StopSignal

_REPORT_EVERY = 0.1
# The topic's limit as it is created; larger records are rejected before they are sent.
MAX_REQUEST_RECORD_BYTES = next(int(topic.config["max.message.bytes"]) for topic in TOPICS if topic.name == REQUESTS)


_Item = TypeVar("_Item")


class Progress(NamedTuple):
    """The progress of a replay. `outstanding` records have no outcome yet."""

    accepted: int
    failed: int
    indeterminate: int
    outstanding: int


class ReplayReport(Struct, frozen=True, kw_only=True):
    """The outcomes of the records that a replay sent.

    `seconds` is the time from the first record to the last outcome. `ids` is empty unless `keep_ids` was set; two
    records may have the same id.
    """

    accepted: int
    failed: int
    indeterminate: int
    seconds: float
    interrupted: bool = False
    errors: dict[str, Errors] = {}
    ids: dict[Outcome, list[str]] = {}
    id_prefix: str = ""
    """The prefix of the ids given to requests without one."""


class ReplayStopped(Exception):
    """The source failed, with `__cause__`; `report` has the outcomes of the records before."""

    def __init__(self, report: ReplayReport) -> None:
        super().__init__(f"stopped after {report.accepted} accepted requests")
        self.report = report


def replay(
    settings: ProducerSettings,
    requests: Iterable[Source],
    *,
    model: str | None = None,
    rate: float | None = None,
    limit: int | None = None,
    shift: Sequence[Shift] = (),
    id_prefix: str | None = None,
    shuffle: int | None = None,
    trace: bool = False,
    keep_ids: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    stop_signal: StopSignal | None = None,
) -> ReplayReport:
    """Publish `requests` to the topic of prediction requests and wait for the outcome of each.

    Args:
        model: the model of requests without one.
        rate: requests per second, evenly spaced; None: as fast as the broker accepts them.
        limit: stop after this many requests.
        shift: shifts, applied to each request's features in order.
        id_prefix: ids are ``PREFIX-00000000`` and so on, numbered in the order of the source, so that a second run
            publishes the same ids. By default the prefix is new and sorts by time.
        shuffle: seed of a random order; the whole source is read into memory first. None: the order of the source.
        trace: give each record a `traceparent` header, the root of a new trace.
        keep_ids: list the ids by outcome in the report. Takes about 100 bytes per id.
        on_progress: called with the current state, at most ten times per second.
        stop_signal: once requested, nothing more is published, and records in flight are completed.

    Raises:
        MissingTopic: the topic does not exist.
        ReplayStopped: the source raised, or a request could not be built: it has no model and `model` is None, or a
            shift does not fit. Records sent before are completed.
        kafka.errors.KafkaTimeoutError: no broker is reachable.
    """
    builder = RequestBuilder(model, shift, id_prefix)

    def build(numbered: tuple[int, Source]) -> tuple[str, Record]:
        request_id, record = builder.build(numbered[1], numbered[0])
        return request_id, record._replace(headers=with_trace(record.headers)) if trace else record

    try:
        report = publish(
            settings,
            REQUESTS,
            enumerate(requests) if shuffle is None else _shuffled(requests, shuffle),
            build,
            rate=rate,
            limit=limit,
            max_bytes=MAX_REQUEST_RECORD_BYTES,
            keep_ids=keep_ids,
            on_progress=on_progress,
            stop_signal=stop_signal,
        )
    except ReplayStopped as stop:
        raise ReplayStopped(msgspec.structs.replace(stop.report, id_prefix=builder.prefix)) from stop.__cause__
    return msgspec.structs.replace(report, id_prefix=builder.prefix)


def publish(
    settings: ProducerSettings,
    topic: str,
    items: Iterable[_Item],
    build: Callable[[_Item], tuple[str, Record]],
    *,
    rate: float | None = None,
    limit: int | None = None,
    max_bytes: int = MAX_MESSAGE_BYTES,
    keep_ids: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    stop_signal: StopSignal | None = None,
) -> ReplayReport:
    """Publish a record for each item and wait for the outcome of each.

    Args:
        topic: the name without the deployment's prefix.
        build: returns an item's request id and record; called when its turn comes.
        max_bytes: larger records are rejected before they are sent.

    Other arguments and errors are those of `replay`.
    """
    name = topic_name(settings, topic)
    partitions = len(end_offsets(settings, topic))
    if not partitions:
        raise MissingTopic(f"topic {name} does not exist: `inflight up` creates it")
    stop_signal = stop_signal or StopSignal()
    limiter = RateLimiter(rate) if rate is not None else None
    ids: dict[Outcome, list[str]] = {"accepted": [], "failed": [], "indeterminate": []}
    failure: Exception | None = None
    publisher = Publisher(
        partial(connect, settings, max_bytes),
        disconnect=disconnect,
        on_delivery=(lambda label, outcome, _error: ids[outcome].append(label)) if keep_ids else ignore,
        timeout=settings.producer_delivery_timeout,
        connect_timeout=settings.kafka_delivery_timeout,
        interrupted=lambda: stop_signal.requested,
    )
    with publisher:
        publisher.on_wait = report = _reporter(publisher, on_progress)

        def meanwhile() -> bool:
            publisher.poll()
            report()
            return not stop_signal.requested

        start = time.monotonic()
        try:
            for item in islice(_until_stopped(items, stop_signal), limit):
                if limiter is not None and not limiter.wait(meanwhile):
                    break
                request_id, record = build(item)
                publisher.publish(
                    name,
                    key=record.key,
                    value=record.value,
                    headers=record.headers,
                    partition=partition_of(record.key or request_id.encode(), partitions),
                    label=request_id,
                )
                report()
            publisher.flush()
        except KeyboardInterrupt:
            publisher.abandon()
        except Exception as error:
            failure = error
            publisher.flush()
        seconds = time.monotonic() - start
    report(last=True)
    outcome = ReplayReport(
        accepted=publisher.accepted,
        failed=publisher.failed,
        indeterminate=publisher.indeterminate,
        seconds=seconds,
        interrupted=stop_signal.requested,
        errors=publisher.errors,
        ids=ids if keep_ids else {},
    )
    if failure is not None:
        raise ReplayStopped(outcome) from failure
    return outcome


def _shuffled(requests: Iterable[_Item], seed: int) -> Iterator[tuple[int, _Item]]:
    """The requests with their original numbers, shuffled. A generator, so that Ctrl-C can stop it while it reads."""
    numbered = list(enumerate(requests))
    random.Random(seed).shuffle(numbered)
    yield from numbered


def _until_stopped(items: Iterable[_Item], stop_signal: StopSignal) -> Iterator[_Item]:
    iterator = iter(items)
    while not stop_signal.requested:
        stop_signal.reading = True
        try:
            item = next(iterator)
        except (StopIteration, KeyboardInterrupt):
            return
        finally:
            stop_signal.reading = False
        yield item


def _reporter(publisher: Publisher, on_progress: Callable[[Progress], None] | None) -> Callable[..., None]:
    due = 0.0

    def report(*, last: bool = False) -> None:
        nonlocal due
        if on_progress is not None and (last or time.monotonic() >= due):
            due = time.monotonic() + _REPORT_EVERY
            on_progress(Progress(publisher.accepted, publisher.failed, publisher.indeterminate, publisher.outstanding))

    return report

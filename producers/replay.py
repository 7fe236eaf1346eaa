"""Publishing prediction requests: at a rate or flat out, each with a known outcome."""

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
from producers.interruption import StopSignal
from producers.publisher import Errors, Outcome, Publisher, ignore
from producers.rate_limiter import RateLimiter
from producers.request_builder import Record, RequestBuilder, Source, with_trace
from producers.settings import ProducerSettings
from producers.shift import Shift

_REPORT_EVERY = 0.1
# What the topic takes as it is created; more is refused without a trip to the broker.
MAX_REQUEST_RECORD_BYTES = next(int(topic.config["max.message.bytes"]) for topic in TOPICS if topic.name == REQUESTS)


_Item = TypeVar("_Item")


class Progress(NamedTuple):
    """How far a replay is. `outstanding` records have no outcome yet."""

    accepted: int
    failed: int
    indeterminate: int
    outstanding: int


class ReplayReport(Struct, frozen=True, kw_only=True):
    """What became of the records that a replay started.

    `seconds` runs from the first record to the last outcome. `ids` is empty unless it was asked for; two records may
    have the same id.
    """

    accepted: int
    failed: int
    indeterminate: int
    seconds: float
    interrupted: bool = False
    errors: dict[str, Errors] = {}
    ids: dict[Outcome, list[str]] = {}
    id_prefix: str = ""
    """Of the ids that were given to what had none."""


class ReplayStopped(Exception):
    """The source broke off, with `__cause__`; `report` tells what became of the records before."""

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
    interruption: StopSignal | None = None,
) -> ReplayReport:
    """Publish `requests` to the topic of prediction requests, and wait for the outcome of each.

    Args:
        model: the model of requests that name none.
        rate: requests a second, evenly spaced; None is as fast as the broker accepts them.
        limit: stop after so many.
        shift: distortions, applied to each request's features in order.
        id_prefix: ids are ``PREFIX-00000000`` and so on, so that a second run publishes the same ids; without it the
            prefix is new and orders by time. The number is that of the request in its source.
        shuffle: seed of another order, in which the whole source is published; it is read into memory before. None is
            the order of the source.
        trace: give each record a `traceparent` header, the root of a new trace.
        keep_ids: list the ids by outcome in the report. Costs some 100 bytes each.
        on_progress: called with the present state, at most ten times a second.
        interruption: when requested, no more is published and what is under way is waited for.

    Raises:
        MissingTopic: the topic doesn't exist.
        ReplayStopped: the source raised, or a request could not be made: it names no model and `model` is None, or a
            shift doesn't fit. What was started before is waited for.
        kafka.errors.KafkaTimeoutError: no broker answers.
    """
    composer = RequestBuilder(model, shift, id_prefix)

    def compose(numbered: tuple[int, Source]) -> tuple[str, Record]:
        request_id, record = composer.compose(numbered[1], numbered[0])
        return request_id, record._replace(headers=with_trace(record.headers)) if trace else record

    try:
        report = publish(
            settings,
            REQUESTS,
            enumerate(requests) if shuffle is None else _shuffled(requests, shuffle),
            compose,
            rate=rate,
            limit=limit,
            max_bytes=MAX_REQUEST_RECORD_BYTES,
            keep_ids=keep_ids,
            on_progress=on_progress,
            interruption=interruption,
        )
    except ReplayStopped as stop:
        raise ReplayStopped(msgspec.structs.replace(stop.report, id_prefix=composer.prefix)) from stop.__cause__
    return msgspec.structs.replace(report, id_prefix=composer.prefix)


def publish(
    settings: ProducerSettings,
    topic: str,
    items: Iterable[_Item],
    compose: Callable[[_Item], tuple[str, Record]],
    *,
    rate: float | None = None,
    limit: int | None = None,
    max_bytes: int = MAX_MESSAGE_BYTES,
    keep_ids: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    interruption: StopSignal | None = None,
) -> ReplayReport:
    """Publish a record for each item, and wait for the outcome of each.

    Args:
        topic: its name without the deployment's prefix.
        compose: makes an item's request id and record, when its turn has come.
        max_bytes: a larger record is refused without a trip to the broker.

    The other arguments, and what is raised, are those of `replay`.
    """
    name = topic_name(settings, topic)
    partitions = len(end_offsets(settings, topic))
    if not partitions:
        raise MissingTopic(f"topic {name} does not exist: `inflight up` creates it")
    interruption = interruption or StopSignal()
    pace = RateLimiter(rate) if rate is not None else None
    ids: dict[Outcome, list[str]] = {"accepted": [], "failed": [], "indeterminate": []}
    stopped_by: Exception | None = None
    publisher = Publisher(
        partial(connect, settings, max_bytes),
        disconnect=disconnect,
        settled=(lambda label, outcome, _error: ids[outcome].append(label)) if keep_ids else ignore,
        timeout=settings.producer_delivery_timeout,
        patience=settings.kafka_delivery_timeout,
        interrupted=lambda: interruption.requested,
    )
    with publisher:
        publisher.while_waiting = report = _reporter(publisher, on_progress)

        def meanwhile() -> bool:
            publisher.settle()
            report()
            return not interruption.requested

        start = time.monotonic()
        try:
            for item in islice(_interruptible(items, interruption), limit):
                if pace is not None and not pace.wait(meanwhile):
                    break
                request_id, record = compose(item)
                publisher.publish(
                    name,
                    key=record.key,
                    value=record.value,
                    headers=record.headers,
                    partition=partition_of(record.key or request_id.encode(), partitions),
                    label=request_id,
                )
                report()
            publisher.drain()
        except KeyboardInterrupt:
            publisher.give_up()
        except Exception as error:
            stopped_by = error
            publisher.drain()
        seconds = time.monotonic() - start
    report(last=True)
    outcome = ReplayReport(
        accepted=publisher.accepted,
        failed=publisher.failed,
        indeterminate=publisher.indeterminate,
        seconds=seconds,
        interrupted=interruption.requested,
        errors=publisher.errors,
        ids=ids if keep_ids else {},
    )
    if stopped_by is not None:
        raise ReplayStopped(outcome) from stopped_by
    return outcome


def _shuffled(requests: Iterable[_Item], seed: int) -> Iterator[tuple[int, _Item]]:
    """With their numbers, which they keep. Reads when it is asked for the first one, so that Ctrl-C ends it there."""
    numbered = list(enumerate(requests))
    random.Random(seed).shuffle(numbered)
    yield from numbered


def _interruptible(items: Iterable[_Item], interruption: StopSignal) -> Iterator[_Item]:
    iterator = iter(items)
    while not interruption.requested:
        interruption.reading = True
        try:
            item = next(iterator)
        except (StopIteration, KeyboardInterrupt):
            return
        finally:
            interruption.reading = False
        yield item


def _reporter(publisher: Publisher, on_progress: Callable[[Progress], None] | None) -> Callable[..., None]:
    due = 0.0

    def report(*, last: bool = False) -> None:
        nonlocal due
        if on_progress is not None and (last or time.monotonic() >= due):
            due = time.monotonic() + _REPORT_EVERY
            on_progress(Progress(publisher.accepted, publisher.failed, publisher.indeterminate, publisher.outstanding))

    return report

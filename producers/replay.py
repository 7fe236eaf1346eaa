"""Publishing prediction requests: at a rate or flat out, each with a known outcome."""

import random
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import msgspec
from msgspec import Raw, Struct

from machine_learning_engineering import events
from machine_learning_engineering.events import PredictionRequested
from machine_learning_engineering.headers import TRACEPARENT
from machine_learning_engineering.kafka import end_offsets, topic_name
from machine_learning_engineering.settings import Settings
from machine_learning_engineering.topics import MAX_MESSAGE_BYTES, REQUESTS, TOPICS
from producers.client import MissingTopic, connect, disconnect, partition_of
from producers.interruption import Interruption
from producers.pace import Pace
from producers.publisher import Errors, Headers, Outcome, Publisher, ignore
from producers.shift import Shift
from producers.sources import Request

_REPORT_EVERY = 0.1
_ID = re.compile(r"(?s).+-([0-9]{8,})")
# What the topic takes as it is created; more is refused without a trip to the broker.
MAX_REQUEST_RECORD_BYTES = next(int(topic.config["max.message.bytes"]) for topic in TOPICS if topic.name == REQUESTS)


class Record(NamedTuple):
    """A record published as it is, well-formed or not. Without a key it still gets the next request id, but no key."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers | None = None


_Item = TypeVar("_Item")
Source = Request | Record | Raw | bytes | Mapping[str, Any]
"""What is published: a request, features (a mapping or raw JSON), a record, or a value's bytes under a fresh key."""


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
    settings: Settings,
    requests: Iterable[Source],
    *,
    model: str | None = None,
    rate: float | None = None,
    limit: int | None = None,
    shift: Sequence[Shift] = (),
    id_prefix: str | None = None,
    trace: bool = False,
    keep_ids: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    interruption: Interruption | None = None,
) -> ReplayReport:
    """Publish `requests` to the topic of prediction requests, and wait for the outcome of each.

    Args:
        model: the model of requests that name none.
        rate: requests a second, evenly spaced; None is as fast as the broker accepts them.
        limit: stop after so many.
        shift: distortions, applied to each request's features in order.
        id_prefix: ids are ``PREFIX-00000000`` and so on, so that a second run publishes the same ids; without it the
            prefix is new and orders by time.
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
    composer = Composer(model, shift, id_prefix)

    def compose(item: Source) -> tuple[str, Record]:
        request_id, record = composer.compose(item)
        return request_id, record._replace(headers=_with_trace(record.headers)) if trace else record

    try:
        report = publish(
            settings,
            REQUESTS,
            requests,
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
    settings: Settings,
    topic: str,
    items: Iterable[_Item],
    compose: Callable[[_Item], tuple[str, Record]],
    *,
    rate: float | None = None,
    limit: int | None = None,
    max_bytes: int = MAX_MESSAGE_BYTES,
    keep_ids: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    interruption: Interruption | None = None,
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
    interruption = interruption or Interruption()
    pace = Pace(rate) if rate is not None else None
    ids: dict[Outcome, list[str]] = {"accepted": [], "failed": [], "indeterminate": []}
    stopped_by: Exception | None = None
    publisher = Publisher(
        partial(connect, settings, max_bytes),
        disconnect=disconnect,
        settled=(lambda label, outcome, _error: ids[outcome].append(label)) if keep_ids else ignore,
        timeout=settings.producer_delivery_timeout,
        patience=settings.worker_delivery_timeout,
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


class Composer:
    """Makes records of what a source gives, with ids of its own where there are none."""

    def __init__(self, model: str | None, shift: Sequence[Shift] = (), id_prefix: str | None = None) -> None:
        self._model = model
        self._shift = shift
        # Like a UUID 7: 12 hexadecimal digits of milliseconds and 10 of chance.
        self.prefix = f"{time.time_ns() // 1_000_000:012x}{uuid4().hex[:10]}" if id_prefix is None else id_prefix
        self._count = 0

    def compose(self, item: Source) -> tuple[str, Record]:
        """The id and the record of `item`; of a record published as it is, the id may be in none of its bytes."""
        fresh = request_id_of(self.prefix, self._count)
        self._count += 1
        if isinstance(item, Record):
            return fresh if item.key is None else item.key.decode(errors="replace"), item
        if isinstance(item, bytes):
            return fresh, Record(item, fresh.encode())
        request = item if isinstance(item, Request) else Request(item)
        model = request.model or self._model
        if model is None:
            raise ValueError("the request names no model: add it, or give one with --model")
        request_id = request.request_id or fresh
        event = PredictionRequested(
            request_id, model, self._features(request.features), request.requested_at or datetime.now(UTC)
        )
        return request_id, Record(events.encode(event), request_id.encode())

    def _features(self, features: Raw | Mapping[str, Any]) -> Raw:
        if self._shift:
            shifted = msgspec.json.decode(features) if isinstance(features, Raw) else dict(features)
            if not isinstance(shifted, dict):
                raise ValueError("can't shift features that are no JSON object")
            for shift in self._shift:
                shift.apply(shifted)
            features = shifted
        return features if isinstance(features, Raw) else Raw(msgspec.json.encode(features))


def request_id_of(prefix: str, number: int) -> str:
    """The id of the request with this number, from 0, of a replay."""
    return f"{prefix}-{number:08d}"


def number_of(request_id: str) -> int | None:
    """The number of a request of a replay; None where the id is of another form."""
    match = _ID.fullmatch(request_id)
    return None if match is None else int(match[1])


def new_traceparent() -> str:
    """The W3C trace context of a new, sampled trace."""
    return f"00-{random.getrandbits(128) | 1:032x}-{random.getrandbits(64) | 1:016x}-01"


def _with_trace(headers: Headers | None) -> Headers:
    return [*(headers or ()), (TRACEPARENT, new_traceparent().encode())]


def _interruptible(items: Iterable[_Item], interruption: Interruption) -> Iterator[_Item]:
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

"""Publishing labels: the true outcomes of requests, late and in any order."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.schemas import LabelReported
from machine_learning_engineering.events.topics import LABELS, REQUESTS
from machine_learning_engineering.kafka.client import read_to_end
from producers.replay import Progress, ReplayReport, publish
from producers.request_builder import Record, number_of, request_id_of
from producers.settings import ProducerSettings
from producers.stop_signal import StopSignal


class RequestLabel(NamedTuple):
    """The label of a request, a JSON value. `observed_at` defaults to the time of publishing."""

    request_id: str
    model: str
    label: Any
    observed_at: datetime | None = None


class _RequestView(Struct):
    request_id: str
    model: str
    features: Raw


_decode_request = msgspec.json.Decoder(_RequestView).decode
_canonical = msgspec.json.Encoder(order="deterministic").encode


def publish_labels(
    settings: ProducerSettings,
    labels: Iterable[RequestLabel],
    *,
    rate: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop_signal: StopSignal | None = None,
) -> ReplayReport:
    """Publish labels, keyed by request id like the requests, and wait for the outcome of each.

    Arguments and errors are those of `replay.publish`.
    """
    return publish(settings, LABELS, labels, _record, rate=rate, on_progress=on_progress, stop_signal=stop_signal)


def labels_by_prefix(
    examples: Iterable[Example], model: str, prefix: str, *, repeat: int = 1
) -> Iterator[RequestLabel]:
    """The labels of the requests that a replay of a dataset with this id prefix publishes.

    A request's id contains the number of its row, so nothing is read from the broker: labels may come first.
    """
    rows = examples if repeat == 1 else list(examples)
    number = 0
    for _ in range(repeat):
        for example in rows:
            yield RequestLabel(request_id_of(prefix, number), model, example.label)
            number += 1


def labels_by_requests(settings: ProducerSettings, examples: Sequence[Example], model: str) -> Iterator[RequestLabel]:
    """The labels of the requests that replays of a dataset have published, in the order of each partition.

    A request belongs to the dataset if the number in its id is that of a row with the same features: ids of other
    producers may end with a number too. Requests published with a shift are therefore skipped.

    Raises:
        TimeoutError: the broker stopped responding.
    """
    known = [_canonical(example.features) for example in examples]
    for record in read_to_end(settings, REQUESTS):
        try:
            request = _decode_request(record.value() or b"")
            number = number_of(request.request_id)
            if request.model != model or number is None or not known:
                continue
            row = number % len(known)
            if _canonical(msgspec.json.decode(request.features)) == known[row]:
                yield RequestLabel(request.request_id, model, examples[row].label)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue


def shuffled(labels: Iterable[RequestLabel], seed: int) -> list[RequestLabel]:
    """The labels in another order, which depends on the seed only."""
    found = list(labels)
    random.Random(seed).shuffle(found)
    return found


def _record(label: RequestLabel) -> tuple[str, Record]:
    event = LabelReported(
        label.request_id,
        label.model,
        Raw(msgspec.json.encode(label.label)),
        label.observed_at or datetime.now(UTC),
    )
    return label.request_id, Record(events.encode(event), label.request_id.encode())

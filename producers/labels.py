"""Publishing labels: the true answers to requests, late and in any order."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.schemas import LabelReported
from machine_learning_engineering.events.topics import LABELS, REQUESTS
from machine_learning_engineering.kafka.client import read_to_end
from producers.interruption import StopSignal
from producers.replay import Progress, ReplayReport, publish
from producers.request_builder import Record, number_of, request_id_of
from producers.settings import ProducerSettings


class TrueAnswer(NamedTuple):
    """The label of a request, a JSON value; observed when it is published, if it does not say when."""

    request_id: str
    model: str
    label: Any
    observed_at: datetime | None = None


class Example(NamedTuple):
    """A row of a dataset: the features that a replay publishes, and the true answer; both JSON values."""

    features: Mapping[str, Any]
    label: Any


class _RequestView(Struct):
    request_id: str
    model: str
    features: Raw


_decode_request = msgspec.json.Decoder(_RequestView).decode
_canonical = msgspec.json.Encoder(order="deterministic").encode


def publish_labels(
    settings: ProducerSettings,
    answers: Iterable[TrueAnswer],
    *,
    rate: float | None = None,
    limit: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    interruption: StopSignal | None = None,
) -> ReplayReport:
    """Publish labels to their topic, and wait for the outcome of each. Keyed by request id, as the requests are.

    The arguments, and what is raised, are those of `replay.publish`.
    """
    return publish(
        settings, LABELS, answers, _record, rate=rate, limit=limit, on_progress=on_progress, interruption=interruption
    )


def of_prefix(examples: Iterable[Example], model: str, prefix: str, *, repeat: int = 1) -> Iterator[TrueAnswer]:
    """The labels of what a replay with this prefix publishes, or has published, of a dataset.

    The number in a request's id is that of its row, so nothing is read from the broker: labels may come first.
    """
    rows = examples if repeat == 1 else list(examples)
    number = 0
    for _ in range(repeat):
        for example in rows:
            yield TrueAnswer(request_id_of(prefix, number), model, example.label)
            number += 1


def of_requests(settings: ProducerSettings, examples: Sequence[Example], model: str) -> Iterator[TrueAnswer]:
    """The labels of the requests on the topic that replays of a dataset have published, in the order of each partition.

    A request is one of these if the number in its id is that of a row with the very same features: an id of somebody
    else's may end with a number too. What was published with a shift is therefore left out.

    Raises:
        TimeoutError: the broker stopped answering.
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
                yield TrueAnswer(request.request_id, model, examples[row].label)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue


def shuffled(answers: Iterable[TrueAnswer], seed: int) -> list[TrueAnswer]:
    """All answers in another order, the same for the same seed."""
    found = list(answers)
    random.Random(seed).shuffle(found)
    return found


def _record(answer: TrueAnswer) -> tuple[str, Record]:
    event = LabelReported(
        answer.request_id,
        answer.model,
        Raw(msgspec.json.encode(answer.label)),
        answer.observed_at or datetime.now(UTC),
    )
    return answer.request_id, Record(events.encode(event), answer.request_id.encode())

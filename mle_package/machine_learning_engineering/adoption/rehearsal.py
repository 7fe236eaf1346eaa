"""A rehearsal: real events of a topic scored as a worker would, with nothing written."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from machine_learning_engineering.adoption.model import AdoptedModel
from machine_learning_engineering.core.error_text import describe_origin
from machine_learning_engineering.core.predict import predict_or_bisect
from machine_learning_engineering.declaration.mapping import SourceMapping, UnmappedRecord
from machine_learning_engineering.drift.binning import count_into
from machine_learning_engineering.drift.profile import Profile
from machine_learning_engineering.drift.report import DriftReport, drift

__all__ = ["Record", "Rehearsal", "rehearse"]


class Record(NamedTuple):
    """A record of a topic."""

    value: bytes | None
    key: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    topic: str
    partition: int
    offset: int


class Rehearsal(NamedTuple):
    """What became of the events."""

    events: int
    answers: list[tuple[str, Any]]
    """Request id and prediction of each event that was answered."""
    refusals: Counter[str]
    """Why others were not, with the number of events."""
    unusual: dict[tuple[str, str], int]
    """Accepted values that are unusual, see `AdoptedModel.counts`."""
    drift: DriftReport | None
    """None without a reference or an answer."""
    batch_seconds: float
    """Duration of the predictions of all events at once."""
    alone_seconds: list[float]
    """Duration of some events, from bytes to prediction, each alone."""


def rehearse(
    model: AdoptedModel,
    records: Iterable[Record],
    reference: Profile | None = None,
    *,
    alone: int = 50,
    significance: float = 0.01,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Rehearsal:
    """Score records.

    Args:
        model: The adopted model, whose declaration has a source.
        records: Records of its topic.
        reference: Profile to compare the events with.
        alone: Number of events that are scored alone as well, for their duration.
        significance: See `drift.report.drift`.
        on_progress: Called with the number of events that were read.

    Raises:
        InvalidDeclaration: The source of the declaration can't be used.
    """
    mapping = SourceMapping(model.declared)
    refusals: Counter[str] = Counter()
    requests: list[tuple[str, bytes, Any]] = []
    count = 0
    for count, record in enumerate(records, 1):
        on_progress(count)
        try:
            mapped = mapping.read(record.value or b"", *record[1:])
            if mapped.refusal:
                raise ValueError(mapped.refusal)
            requests.append((mapped.request_id, bytes(mapped.features), model.decode(mapped.features)))
        except UnmappedRecord as error:
            refusals["a tombstone: the record has no value" if record.value is None else str(error)] += 1
        except ValueError as error:
            refusals[str(error)] += 1
    rows = [row for _, _, row in requests]
    answers: list[tuple[str, Any]] = []
    answered: list[Any] = []
    started = time.perf_counter()
    for call in predict_or_bisect(model, rows) if rows else ():
        if call.error is not None:
            refusals[f"predict raised {describe_origin(call.error)}"] += 1
            continue
        answers += zip((one for one, _, _ in requests[call.rows]), call.predictions, strict=True)
        answered += rows[call.rows]
    seconds = time.perf_counter() - started
    unusual = model.counts()
    durations = [_alone(model, features) for _, features, _ in requests[:alone]] if answers else []
    report = None
    if reference is not None and answers:
        window = count_into(reference, answered, [prediction for _, prediction in answers])
        report = drift(reference, window, significance=significance)
    return Rehearsal(count, answers, refusals, unusual, report, seconds, durations)


def _alone(model: AdoptedModel, features: bytes) -> float:
    started = time.perf_counter()
    try:
        model.predict([model.decode(features)])
    except Exception:
        return float("nan")
    return time.perf_counter() - started

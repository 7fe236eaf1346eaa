"""What a prediction log tells of a version: its newest rows and answers, and those whose true label is known."""

import math
from collections import Counter, deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.model import Model
from machine_learning_engineering.core.validation import InvalidFeatures
from machine_learning_engineering.observability.redaction import holds_tokens
from machine_learning_engineering.prediction_log.store import PredictionLog, PredictionRecord


class Labelled(NamedTuple):
    """An answer of the log with the true one; `example` is what can be trained on: None if features are redacted."""

    example: Example | None
    prediction: Any
    label: Any


class LiveRows(NamedTuple):
    """Decoded rows and their answers, oldest first, and the labelled ones.

    `skipped` counts what could not be used: failed predictions, rows that no longer fit the model's schema, and labels
    that are none, such as NaN. Rows with redacted features are counted there too: of those the answer and the label
    alone are used. `unmatched` is the number of given labels whose request is not among the rows read.
    """

    rows: list[Any]
    predictions: list[Any]
    labelled: list[Labelled]
    skipped: dict[str, int]
    unmatched: int
    first: datetime | None
    last: datetime | None


def read(
    model: Model,
    log: PredictionLog,
    labels: Mapping[str, Any] | None,
    *,
    version: str,
    max_rows: int,
    since: datetime | None = None,
    until: datetime | None = None,
) -> LiveRows:
    """The newest rows of a version, at most `max_rows`, and the newest labelled ones, at most as many.

    Args:
        labels: true answers by request id; one in the log counts where this has none.

    Raises:
        PredictionLogError: the log can't be read.
    """
    newest: deque[tuple[datetime, Any, Any]] = deque(maxlen=max_rows)
    labelled: deque[Labelled] = deque(maxlen=max_rows)
    skipped: Counter[str] = Counter()
    unmatched = len(labels or {})
    for record in log.read(model.name, since=since, until=until, version=version):
        given = record.request_id in (labels or {})
        unmatched -= given
        if record.outcome != "completed" or record.prediction is UNSET:
            skipped["failed"] += 1
            continue
        redacted = bool(record.redacted) or holds_tokens(record.features)
        try:
            row = None if redacted else model.decode(record.features)
            prediction = msgspec.json.decode(record.prediction, type=model.Prediction)
        except (InvalidFeatures, msgspec.MsgspecError):
            skipped["unreadable"] += 1
            continue
        if redacted:
            skipped["redacted"] += 1
        else:
            newest.append((record.created_at, row, prediction))
        try:
            label = _label(model, record, labels or {})
        except (msgspec.MsgspecError, UnicodeDecodeError):
            skipped["bad label"] += 1
            continue
        if label is not UNSET:
            example = None if redacted else Example(msgspec.json.decode(record.features), label)
            labelled.append(Labelled(example, prediction, label))
    return LiveRows(
        rows=[row for _, row, _ in newest],
        predictions=[prediction for _, _, prediction in newest],
        labelled=list(labelled),
        skipped=dict(skipped),
        unmatched=unmatched,
        first=newest[0][0] if newest else None,
        last=newest[-1][0] if newest else None,
    )


def _label(model: Model, record: PredictionRecord, labels: Mapping[str, Any]) -> Any:
    label = labels.get(record.request_id, record.label)
    if label is UNSET:
        return UNSET
    found = (
        msgspec.json.decode(label, type=model.Label) if isinstance(label, Raw) else msgspec.convert(label, model.Label)
    )
    if found is None or (isinstance(found, float) and not math.isfinite(found)):
        raise msgspec.ValidationError("a label is missing")
    return found

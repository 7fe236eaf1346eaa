"""Newest rows and predictions of a version in a prediction log, and those with a known label."""

from collections import Counter, deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.model import Model
from machine_learning_engineering.observability.redaction import holds_tokens
from machine_learning_engineering.prediction_log.store import PredictionLog
from machine_learning_engineering.training.records import GIVEN, decode_label


class LabelledPrediction(NamedTuple):
    """A logged prediction with its true label; `example` is for training, None if features are redacted.

    `source` reported the label: "" for a log that does not know it, `GIVEN` for a label that was passed in.
    """

    example: Example | None
    prediction: Any
    label: Any
    source: str = ""


class LiveRows(NamedTuple):
    """Decoded rows and their predictions, oldest first, and labelled predictions.

    `skipped` counts unusable rows: failed predictions, rows that no longer fit the model's schema, and invalid labels.
    Rows with redacted features are counted too, but their predictions and labels are used. `unmatched` is the number of
    given labels without a request among the rows read.
    """

    rows: list[Any]
    predictions: list[Any]
    labelled: list[LabelledPrediction]
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
    """Read at most `max_rows` newest rows of a version, and at most as many newest labelled ones.

    Args:
        labels: True labels by request id; they take precedence over labels in the log.

    Raises:
        PredictionLogError: The log can't be read.
    """
    newest: deque[tuple[datetime, Any, Any]] = deque(maxlen=max_rows)
    labelled: deque[LabelledPrediction] = deque(maxlen=max_rows)
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
        except (ValueError, RecursionError):
            skipped["unreadable"] += 1
            continue
        if redacted:
            skipped["redacted"] += 1
        else:
            newest.append((record.created_at, row, prediction))
        reported = (labels or {}).get(record.request_id, record.label)
        if reported is UNSET:
            continue
        try:
            label = decode_label(model.Label, reported)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            skipped["bad label"] += 1
            continue
        example = None if redacted else Example(msgspec.json.decode(record.features), label)
        source = GIVEN if given else record.label_source or ""
        labelled.append(LabelledPrediction(example, prediction, label, source))
    return LiveRows(
        rows=[row for _, row, _ in newest],
        predictions=[prediction for _, _, prediction in newest],
        labelled=list(labelled),
        skipped=dict(skipped),
        unmatched=unmatched,
        first=newest[0][0] if newest else None,
        last=newest[-1][0] if newest else None,
    )

"""From the log to training data: logged requests and the labels that came later, as features and as examples."""

import csv
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct

from machine_learning_engineering import durable
from machine_learning_engineering.feature_store import FeatureRow, FeatureStore, FeatureStoreError, FeatureView
from machine_learning_engineering.json_values import value_of_cell
from machine_learning_engineering.model import MLEModel
from machine_learning_engineering.prediction_log import LoggedPrediction

EXAMPLES_FILE = "examples.jsonl"
_PAGE = 10_000


class Label(Struct, frozen=True):
    """The true answer of a request of `model`, and when it was seen."""

    request_id: str
    model: str
    label: Any
    observed_at: datetime


class LabelValue(Struct, frozen=True):
    """A label as the store keeps it."""

    label: Any


class Built(Struct, frozen=True, kw_only=True):
    """What a build did, in rows.

    `refused` requests do not fit the model's schema (any more), `refused_labels` are no labels of the model, and
    `unmatched` labels have no request before them. `examples` is how many the file at `path` holds.
    """

    model: str
    requests: int
    new_requests: int
    refused: int
    labels: int
    new_labels: int
    refused_labels: int
    unmatched: int
    examples: int
    path: str


def request_view(model_class: type[MLEModel]) -> FeatureView[Any]:
    """What requests of a model said, by request id."""
    return FeatureView(model_class.name, model_class.Features)


def label_view(model_class: type[MLEModel]) -> FeatureView[LabelValue]:
    """The true answers of a model's requests, by request id."""
    return FeatureView(f"{model_class.name}.labels", LabelValue)


def read_labels(path: Path) -> Iterator[Label]:
    """The labels in a .jsonl or .csv file with request_id, model, label and observed_at (with an offset).

    In a .csv file a label is the JSON value that its cell holds, or else its text.

    Raises:
        FeatureStoreError: a line is no label; the message names it.
        OSError: the file can't be read.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        if path.suffix.lower() == ".csv":
            reader = csv.DictReader(file)
            lines: Iterator[Any] = ({**line, "label": value_of_cell(line.get("label") or "")} for line in reader)
        else:
            lines = (line for line in file if line.strip())
        for number, line in enumerate(lines, start=1):
            try:
                label = msgspec.json.decode(line, type=Label) if isinstance(line, str) else msgspec.convert(line, Label)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise FeatureStoreError(f"{path}, label {number}: {error}") from error
            if label.observed_at.tzinfo is None:
                raise FeatureStoreError(f"{path}, label {number}: observed_at has no offset, such as Z")
            yield label


def build(
    store: FeatureStore,
    model_class: type[MLEModel],
    records: Iterable[LoggedPrediction],
    labels: Iterable[Label],
    folder: Path,
) -> Built:
    """Bring logged requests and labels of a model into the store, and write what they teach as examples.

    The examples are lines of ``{"features": ..., "label": ..., "request_id": ..., "observed_at": ...}`` in the order in
    which the labels were seen. They are all that the store knows, and not only what is new: a label that was corrected
    counts as it is now. A label that the log itself has counts as seen when its request was.

    Args:
        records: of the log; those of other models are left out.
        labels: those of other models are left out.
        folder: where `EXAMPLES_FILE` is written, whole or not at all; nothing if there is no example.

    Raises:
        FeatureStoreError: the store can't be read or written.
    """
    requests, truths = request_view(model_class), label_view(model_class)
    counts = {"requests": 0, "new_requests": 0, "refused": 0, "labels": 0, "new_labels": 0, "refused_labels": 0}
    pending: list[FeatureRow[Any]] = []
    answers: list[FeatureRow[LabelValue]] = []

    def keep() -> None:
        counts["new_requests"] += store.write(requests, pending)
        counts["new_labels"] += store.write(truths, answers)
        pending.clear()
        answers.clear()

    def answer(key: str, at: datetime, value: Any) -> None:
        counts["labels"] += 1
        try:
            answers.append(FeatureRow(key, at, LabelValue(_label(model_class, value))))
        except msgspec.ValidationError:
            counts["refused_labels"] += 1

    for record in records:
        if record.model != model_class.name:
            continue
        counts["requests"] += 1
        try:
            features = msgspec.json.decode(record.features, type=model_class.Features)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            counts["refused"] += 1
            continue
        pending.append(FeatureRow(record.request_id, record.created_at, features))
        if isinstance(record.label, Raw):
            answer(record.request_id, record.created_at, msgspec.json.decode(record.label))
        if len(pending) >= _PAGE:
            keep()
    for label in labels:
        if label.model == model_class.name:
            answer(label.request_id, label.observed_at, label.label)
            if len(answers) >= _PAGE:
                keep()
    keep()
    found, unmatched = _examples(store, requests, truths)
    path = folder / EXAMPLES_FILE
    if found:
        folder.mkdir(parents=True, exist_ok=True)
        durable.replace(path, b"".join(msgspec.json.encode(one) + b"\n" for one in found))
    return Built(model=model_class.name, unmatched=unmatched, examples=len(found), path=str(path), **counts)


def _examples(
    store: FeatureStore, requests: FeatureView[Any], truths: FeatureView[LabelValue]
) -> tuple[list[dict[str, Any]], int]:
    """Each request's label as it is now, with what the request said; and the number of labels without a request."""
    latest: dict[str, FeatureRow[LabelValue]] = {}
    for row in store.history(truths):
        # Taken out first, so that the order is that of the times that count.
        latest.pop(row.key, None)
        latest[row.key] = row
    features = store.join(requests, [(row.key, row.at) for row in latest.values()])
    found = [
        {"features": known, "label": row.features.label, "request_id": row.key, "observed_at": row.at}
        for row, known in zip(latest.values(), features, strict=True)
        if known is not None
    ]
    return found, len(latest) - len(found)


def _label(model_class: type[MLEModel], value: Any) -> Any:
    """The value as the model's label has it: 1 or "true" where that is true or false, 326 where it is a float.

    Raises:
        ValidationError: it is no label of the model.
    """
    try:
        return msgspec.to_builtins(msgspec.convert(value, model_class.Label, strict=False))
    except msgspec.ValidationError:
        if not isinstance(value, int | float):
            raise
        # A text that looks like a number, such as the stars of a review, in a file that can't tell.
        return msgspec.to_builtins(msgspec.convert(msgspec.json.encode(value).decode(), model_class.Label))

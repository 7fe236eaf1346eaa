"""From the log to training data: logged requests and the labels that came later, as features and as examples."""

import csv
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct

from machine_learning_engineering.core import files as durable
from machine_learning_engineering.core.json_values import value_of_cell
from machine_learning_engineering.core.model import Model
from machine_learning_engineering.feature_store.offline import FeatureStoreError
from machine_learning_engineering.feature_store.store import FeatureRow, FeatureStore, FeatureView
from machine_learning_engineering.observability.redaction import holds_tokens
from machine_learning_engineering.prediction_log.store import PredictionRecord

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

    `refused` requests do not fit the model's schema (any more), `redacted` ones are not in the log as they were sent,
    `refused_labels` are no labels of the model, and `unmatched` labels have no request before them. `examples` is how
    many the file at `path` holds.
    """

    model: str
    requests: int
    new_requests: int
    refused: int
    redacted: int
    labels: int
    new_labels: int
    refused_labels: int
    unmatched: int
    examples: int
    path: str


def request_view(model_class: type[Model]) -> FeatureView[Any]:
    """What requests of a model said, by request id."""
    return FeatureView(model_class.name, model_class.Features)


def label_view(model_class: type[Model]) -> FeatureView[LabelValue]:
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


class Intake:
    """Brings requests and labels of one model into a store, some at a time. `keep` has to be called in the end.

    `stale` is whether the examples may lack something that the store has. They do so at first, for what another process
    kept before it was killed; and whenever rows were kept, also such as the store had already: whoever kept those may
    have been killed before it wrote the examples.

    Args:
        store: in which the views `request_view` and `label_view` of the model are filled.
    """

    def __init__(self, store: FeatureStore, model_class: type[Model]) -> None:
        self.requests = self.new_requests = self.refused = self.redacted = 0
        self.labels = self.new_labels = self.refused_labels = 0
        self.stale = True
        self._store = store
        self._model = model_class
        self._request_view, self._label_view = request_view(model_class), label_view(model_class)
        self._requests: list[FeatureRow[Any]] = []
        self._labels: list[FeatureRow[LabelValue]] = []

    def add_request(self, request_id: str, at: datetime, features: Raw, *, redacted: bool = False) -> None:
        """A request and its features; what does not fit the model's schema is counted as refused.

        Args:
            redacted: whether the features are others than those that were sent. A model must not learn from them.
        """
        self.requests += 1
        if redacted or holds_tokens(features):
            self.redacted += 1
            return
        try:
            decoded = msgspec.json.decode(features, type=self._model.Features)
            row = FeatureRow(request_id, at.astimezone(UTC), _storable(decoded))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError):
            # OverflowError: with its offset the time is before the first or after the last year; or see `_storable`.
            self.refused += 1
            return
        self._requests.append(row)
        self._keep_page()

    def add_label(self, request_id: str, observed_at: datetime, value: Any) -> None:
        """The true answer of a request, a JSON value; what is no label of the model is counted as refused."""
        self.labels += 1
        try:
            row = FeatureRow(request_id, observed_at.astimezone(UTC), LabelValue(_label(self._model, value)))
        except (msgspec.ValidationError, OverflowError):
            self.refused_labels += 1
            return
        self._labels.append(row)
        self._keep_page()

    def keep(self) -> None:
        """Write what was added; when this returns it is safe on disk. It is also called whenever a page is full.

        Raises:
            FeatureStoreError: the store can't be written; what was added stays, to be kept with the next call.
        """
        self.stale = self.stale or bool(self._requests or self._labels)
        self.new_requests += self._store.write(self._request_view, self._requests)
        self._requests.clear()
        self.new_labels += self._store.write(self._label_view, self._labels)
        self._labels.clear()

    def write_examples(self, folder: Path) -> Built:
        """Write every labelled request that the store knows to `folder`, and tell what was done until now.

        Raises:
            FeatureStoreError: the store can't be read.
        """
        path = folder / EXAMPLES_FILE
        # Of two that write, the one that read the store first must not be the last to replace the file.
        with self._store.exclusively(self._label_view):
            found, unmatched = _examples(self._store, self._request_view, self._label_view)
            if found:
                folder.mkdir(parents=True, exist_ok=True)
                durable.replace(path, b"".join(msgspec.json.encode(one) + b"\n" for one in found))
        self.stale = False
        return Built(
            model=self._model.name,
            requests=self.requests,
            new_requests=self.new_requests,
            refused=self.refused,
            redacted=self.redacted,
            labels=self.labels,
            new_labels=self.new_labels,
            refused_labels=self.refused_labels,
            unmatched=unmatched,
            examples=len(found),
            path=str(path),
        )

    def _keep_page(self) -> None:
        if len(self._requests) >= _PAGE or len(self._labels) >= _PAGE:
            self.keep()


def build(
    store: FeatureStore,
    model_class: type[Model],
    records: Iterable[PredictionRecord],
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
    intake = Intake(store, model_class)
    for record in records:
        if record.model != model_class.name:
            continue
        intake.add_request(record.request_id, record.created_at, record.features, redacted=bool(record.redacted))
        if isinstance(record.label, Raw):
            intake.add_label(record.request_id, record.created_at, msgspec.json.decode(record.label))
    for label in labels:
        if label.model == model_class.name:
            intake.add_label(label.request_id, label.observed_at, label.label)
    intake.keep()
    return intake.write_examples(folder)


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


def _storable(features: Struct) -> Struct:
    """The features as they are.

    Raises:
        OverflowError: one is an integer of more than 64 bits, for which a file has no column.
    """
    for value in msgspec.structs.astuple(features):
        if isinstance(value, int):
            value.to_bytes(8, signed=True)
    return features


def _label(model_class: type[Model], value: Any) -> Any:
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

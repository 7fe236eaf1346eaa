"""Training examples from logged requests and the labels that arrive later."""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from machine_learning_engineering.prediction_log.store import PredictionLog, PredictionRecord

EXAMPLES_FILE = "examples.jsonl"
_PAGE = 10_000


class Label(Struct, frozen=True):
    """The true label of a request of `model`, and when it was observed."""

    request_id: str
    model: str
    label: Any
    observed_at: datetime


class LabelValue(Struct, frozen=True):
    """A label as the store holds it."""

    label: Any


class BuildReport(Struct, frozen=True, kw_only=True):
    """Counts of rows in a build.

    `refused` requests do not fit the model's schema, `redacted` ones are not in the log as they were sent,
    `refused_labels` do not fit the model's `Label`, and `unmatched` labels have no earlier request. `examples` is the
    number of examples in the file at `path`.
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
    """Features of a model's requests, by request id."""
    return FeatureView(model_class.name, model_class.Features)


def label_view(model_class: type[Model]) -> FeatureView[LabelValue]:
    """True labels of a model's requests, by request id."""
    return FeatureView(f"{model_class.name}.labels", LabelValue)


def read_labels(path: Path) -> Iterator[Label]:
    """Read labels from a .jsonl or .csv file with request_id, model, label and observed_at (with an offset).

    A cell of a .csv file that is not JSON is a string label.

    Raises:
        FeatureStoreError: A line is not a label. The message names it.
        OSError: The file can't be read.
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


class ExampleBuilder:
    """Adds requests and labels of one model to a store and writes the examples. Call `flush` at the end.

    `is_dirty` is true if the examples may lack rows of the store: initially, because another process may have been
    killed after it stored rows and before it wrote the examples, and for the same reason after each flush of rows, even
    of rows that the store already had.

    Args:
        store: Receives the views `request_view` and `label_view` of the model.
        model_class: The model.
    """

    def __init__(self, store: FeatureStore, model_class: type[Model]) -> None:
        self.requests = self.new_requests = self.refused = self.redacted = 0
        self.labels = self.new_labels = self.refused_labels = 0
        self.is_dirty = True
        self._store = store
        self._model = model_class
        self._request_view, self._label_view = request_view(model_class), label_view(model_class)
        self._requests: list[FeatureRow[Any]] = []
        self._labels: list[FeatureRow[LabelValue]] = []

    def add_request(self, request_id: str, at: datetime, features: Raw, *, redacted: bool = False) -> None:
        """Add a request and its features. Features that do not fit the model's schema count as refused.

        Args:
            request_id: The request.
            at: When it was accepted.
            features: Its features as JSON.
            redacted: Whether the features differ from those that were sent. A model must not learn from such features.
        """
        self.requests += 1
        if redacted or holds_tokens(features):
            self.redacted += 1
            return
        try:
            decoded = msgspec.json.decode(features, type=self._model.Features)
            row = FeatureRow(request_id, at.astimezone(UTC), _storable(decoded))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError):
            # OverflowError: the time is outside the calendar in UTC, or see `_storable`.
            self.refused += 1
            return
        self._requests.append(row)
        self._flush_full_page()

    def add_label(self, request_id: str, observed_at: datetime, value: Any) -> None:
        """Add the true label of a request, a JSON value. A value that does not fit the model's `Label` is refused."""
        self.labels += 1
        try:
            row = FeatureRow(request_id, observed_at.astimezone(UTC), LabelValue(_label(self._model, value)))
        except (msgspec.ValidationError, OverflowError):
            self.refused_labels += 1
            return
        self._labels.append(row)
        self._flush_full_page()

    def flush(self) -> None:
        """Write added rows to the store; they are synced to disk when this returns. Full pages are flushed on the way.

        Raises:
            FeatureStoreError: The store can't be written. The rows remain for the next call.
        """
        self.is_dirty = self.is_dirty or bool(self._requests or self._labels)
        self.new_requests += self._store.write(self._request_view, self._requests)
        self._requests.clear()
        self.new_labels += self._store.write(self._label_view, self._labels)
        self._labels.clear()

    def write_examples(self, folder: Path) -> BuildReport:
        """Write every labelled request in the store to `folder` and report all counts.

        Raises:
            FeatureStoreError: The store can't be read.
        """
        path = folder / EXAMPLES_FILE
        # Of two writers, the one that read the store first must not be the last to replace the file.
        with self._store.lock(self._label_view):
            found, unmatched = _examples(self._store, self._request_view, self._label_view)
            if found:
                folder.mkdir(parents=True, exist_ok=True)
                durable.replace(path, b"".join(msgspec.json.encode(one) + b"\n" for one in found))
        self.is_dirty = False
        counts = {name: count for name, count in vars(self).items() if name in BuildReport.__struct_fields__}
        return BuildReport(model=self._model.name, unmatched=unmatched, examples=len(found), path=str(path), **counts)

    def _flush_full_page(self) -> None:
        if len(self._requests) >= _PAGE or len(self._labels) >= _PAGE:
            self.flush()


def build(
    store: FeatureStore,
    model_class: type[Model],
    records: Iterable[PredictionRecord],
    labels: Iterable[Label],
    folder: Path,
) -> BuildReport:
    """Add logged requests and labels of a model to the store and write the examples.

    Examples are lines of ``{"features": ..., "label": ..., "request_id": ..., "observed_at": ...}`` in order of
    `observed_at`. The file holds all labelled requests of the store, not only the new ones, each with its latest label.
    A label in the log itself counts as observed when its request was accepted.

    Args:
        store: The store.
        model_class: The model; records and labels of other models are skipped.
        records: Records of the prediction log.
        labels: Labels from elsewhere.
        folder: Where `EXAMPLES_FILE` is written, atomically; not at all without an example.

    Raises:
        FeatureStoreError: The store can't be read or written.
    """
    builder = ExampleBuilder(store, model_class)
    for record in records:
        if record.model != model_class.name:
            continue
        builder.add_request(record.request_id, record.created_at, record.features, redacted=bool(record.redacted))
        if isinstance(record.label, Raw):
            builder.add_label(record.request_id, record.created_at, msgspec.json.decode(record.label))
    for label in labels:
        if label.model == model_class.name:
            builder.add_label(label.request_id, label.observed_at, label.label)
    builder.flush()
    return builder.write_examples(folder)


def build_from_log(
    store: FeatureStore,
    model_classes: Mapping[str, type[Model]],
    log: PredictionLog,
    labels: Sequence[Label],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    on_progress: Callable[[str], None] = lambda _step: None,
) -> list[BuildReport]:
    """Build the examples of several models from one log, each into `examples_folder`.

    Raises:
        FeatureStoreError: The store can't be read or written.
        PredictionLogError: The log can't be read.
    """
    reports = []
    for name, model_class in model_classes.items():
        on_progress(f"{name}: reading the log")
        records = log.read(name, since=since, until=until)
        reports.append(build(store, model_class, records, labels, examples_folder(store, name)))
    return reports


def examples_folder(store: FeatureStore, model: str) -> Path:
    """The folder of a model's examples."""
    return store.path / "examples" / model


def _examples(
    store: FeatureStore, requests: FeatureView[Any], labels: FeatureView[LabelValue]
) -> tuple[list[dict[str, Any]], int]:
    """Each request with its latest label, and the number of labels without an earlier request."""
    latest: dict[str, FeatureRow[LabelValue]] = {}
    for row in store.history(labels):
        # Removed first: the order is that of the latest labels.
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
    """Return the features unchanged.

    Raises:
        OverflowError: An integer does not fit the 64 bits of a column.
    """
    for value in msgspec.structs.astuple(features):
        if isinstance(value, int):
            value.to_bytes(8, signed=True)
    return features


def _label(model_class: type[Model], value: Any) -> Any:
    """Convert a value to the model's `Label`: 1 and "true" to a bool, 326 to a float.

    Raises:
        ValidationError: The value does not fit `Label`.
    """
    try:
        return msgspec.to_builtins(msgspec.convert(value, model_class.Label, strict=False))
    except msgspec.ValidationError:
        if not isinstance(value, int | float):
            raise
        # A string that looks like a number, such as the stars of a review, read from a CSV file.
        return msgspec.to_builtins(msgspec.convert(msgspec.json.encode(value).decode(), model_class.Label))

"""Training examples from logged requests and the labels that arrive later."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct

from machine_learning_engineering.core.csv_row import label_of_cell, label_of_value
from machine_learning_engineering.core.json_values import decode_as
from machine_learning_engineering.core.model import Model
from machine_learning_engineering.core.table_file import CsvReader, MalformedLine, is_csv, json_objects
from machine_learning_engineering.feature_store.example_file import ExampleFile, LabelValue
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


class BuildReport(Struct, frozen=True, kw_only=True):
    """Counts of rows in a build.

    `refused` requests do not fit the model's schema, `redacted` ones are not in the log as they were sent,
    `refused_labels` do not fit the model's `Label`, and `unmatched` labels have no request. `examples` is the number of
    examples in the file at `path`.
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


def read_labels(path: Path, label_types: Mapping[str, Any] | None = None) -> Iterator[Label]:
    """Read labels from a .jsonl or .csv file with request_id, model, label and observed_at (with an offset).

    Args:
        path: The file. A cell of a .csv file that is not JSON is a string label.
        label_types: The `Label` of each known model, by name: labels are converted to it, so that ``True`` in a .csv
            file and 1 in a .jsonl file are the same label of a `bool`. Labels of other models are read as they are.

    Raises:
        FeatureStoreError: A line is not a label, or not one of its model. The message names it.
        OSError: The file can't be read.
    """
    with path.open("rb") as file:
        try:
            csv = is_csv(path)
            lines: Iterator[tuple[int, dict[str, Any]]] = CsvReader(file).rows() if csv else json_objects(file)
            for count, (number, line) in enumerate(lines, start=1):
                try:
                    yield _label_of_line(line, csv, label_types or {})
                except ValueError as error:
                    raise FeatureStoreError(f"{path} line {number}, label {count}: {error}") from error
        except MalformedLine as error:
            raise FeatureStoreError(f"{path} {error}") from error


def _label_of_line(line: dict[str, Any], csv: bool, label_types: Mapping[str, Any]) -> Label:
    """Convert a line to a label.

    Raises:
        ValueError: It is not a label, or not one of its model.
    """
    model = line.get("model")
    label_type = label_types.get(model, Any) if isinstance(model, str) else Any
    if csv and "label" in line:
        if not line["label"]:
            raise ValueError("the cell of `label` is empty")
        line = {**line, "label": label_of_cell(line["label"], label_type)}
    label = msgspec.convert(line, Label)
    if label.observed_at.tzinfo is None:
        raise ValueError("observed_at has no offset, such as Z")
    value = label_of_value(label.label, label_type)
    try:
        msgspec.convert(value, label_type)
    except msgspec.ValidationError as error:
        raise ValueError(f"no label of `{label.model}`: {error}") from error
    return msgspec.structs.replace(label, label=value)


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
        self._changed: set[str] | None = None
        """Ids of requests whose examples may have changed since the last write; None for all of them."""

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
            decoded = decode_as(features, self._model.Features)
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
        if self._changed is not None:
            self._changed.update(row.key for row in (*self._requests, *self._labels))
        self.new_requests += self._store.write(self._request_view, self._requests)
        self._requests.clear()
        self.new_labels += self._store.write(self._label_view, self._labels)
        self._labels.clear()

    def write_examples(self, folder: Path) -> BuildReport:
        """Write every labelled request in the store to the file in `folder`, and report all counts.

        The first call writes all of them, later ones those that have changed.

        Raises:
            FeatureStoreError: The store can't be read.
        """
        path = folder / EXAMPLES_FILE
        if self._changed is None:
            self._store.repair_online(self._request_view)
            self._store.repair_online(self._label_view)
        file = ExampleFile(self._store.online_store, path, self._request_view, self._label_view)
        found = file.update(self._changed)
        self._changed, self.is_dirty = set(), False
        unmatched = self._store.online_store.count(self._label_view.name) - found
        counts = {name: count for name, count in vars(self).items() if name in BuildReport.__struct_fields__}
        return BuildReport(model=self._model.name, unmatched=unmatched, examples=found, path=str(path), **counts)

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

    Examples are lines of ``{"features": ..., "label": ..., "request_id": ..., "observed_at": ...}``, those of one build
    in order of `observed_at`. The file holds all labelled requests of the store, not only the new ones, each with its
    latest label. A label in the log itself counts as observed when its request was accepted.

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
    """Convert a value to the model's `Label`.

    Raises:
        ValidationError: The value does not fit `Label`.
    """
    return msgspec.to_builtins(msgspec.convert(label_of_value(value, model_class.Label), model_class.Label))

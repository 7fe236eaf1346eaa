"""Sources of training examples: the model's dataset, files, folders of files, or the prediction log.

Examples are not validated here. They are passed on as JSON text with their source and line, so that a later error can
name both.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from machine_learning_engineering.core.csv_row import LAYER_FIELDS, label_of_value
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.extras import require
from machine_learning_engineering.core.frames import examples_of
from machine_learning_engineering.core.json_values import plain_scalar
from machine_learning_engineering.core.model import Model
from machine_learning_engineering.core.table_file import CsvReader, MalformedLine, json_objects
from machine_learning_engineering.settings import KernelSettings
from machine_learning_engineering.storage.location import Location, Place, parse_place
from machine_learning_engineering.storage.opening import open_store, read_file
from machine_learning_engineering.training.log_source import read_log, read_log_file
from machine_learning_engineering.training.records import Record, Source, SourceUnreadable

if TYPE_CHECKING:
    from machine_learning_engineering.prediction_log.store import PredictionLog

__all__ = ["DATASET", "LOG", "STREAM", "Found", "collect", "digest_of", "stream_examples"]

DATASET = "dataset"
LOG = "log"
STREAM = "stream"
"""The examples that the stream has made, see `stream_examples`."""
GIVEN = "examples"
RAW = "raw"
"""Folder of copies of raw files, among the layers."""


class Found(NamedTuple):
    """Records of all sources in order, and the digest of their features and labels."""

    records: list[Record]
    sources: list[Source]
    sha256: str


def collect(
    model_class: type[Model],
    settings: KernelSettings,
    sources: Sequence[str],
    *,
    examples: Iterable[Example] | None = None,
    logs: "Mapping[str, PredictionLog] | None" = None,
) -> Found:
    """Read the sources in order, and copy raw files to the folder of the layers, by digest.

    Args:
        sources: ``dataset``, ``stream``, ``log``, ``log:LABELS_FILE``, or the path or URL of a file or folder.
        examples: Examples to use instead of `sources`, or a data frame of them.
        logs: Further prediction logs by name, each a source like ``log``.

    Raises:
        InvalidTable: A data frame of examples can't be used.
        SourceUnreadable: A source is missing, empty or of an unknown kind, or a line of it is not an example;
            `LogUnreadable` for a prediction log that is missing or unreadable.
        DatasetUnavailable: The model's dataset is unavailable.
        OSError: A file can't be read, or its copy can't be written.
    """
    records: list[Record] = []
    found: list[Source] = []
    if examples is not None:
        _add(records, found, GIVEN, _records(GIVEN, enumerate(examples_of(model_class, examples), start=1)))
    for source in sources if examples is None else ():
        if source == DATASET:
            examples_of_model = enumerate(model_class.examples(settings.data_dir), start=1)
            _add(records, found, DATASET, _records(DATASET, examples_of_model))
            if model_class.dataset_sha256:
                found[-1] = msgspec.structs.replace(found[-1], sha256=model_class.dataset_sha256)
        elif (name := source.partition(":")[0]) == LOG or name in (logs or {}):
            skipped: Counter[str] = Counter()
            share = settings.train_max_source_share
            if (log := (logs or {}).get(name)) is not None:
                read = list(read_log(model_class, log, source, skipped, share))
            else:
                read = list(read_log_file(model_class, settings.prediction_log, source, skipped, share))
            _add(records, found, source, (record for record, _ in read))
            reported_by = Counter(label_source for _, label_source in read)
            found[-1] = msgspec.structs.replace(found[-1], skipped=dict(skipped), label_sources=dict(reported_by))
        else:
            if source == STREAM:
                source = str(stream_examples(model_class.name, settings))
            for path, content in _files(source):
                _add(records, found, path, _of_file(model_class, path, content))
                digest = hashlib.sha256(content).hexdigest()
                kept = _keep(settings.layers_dir, f"{RAW}/{digest}/{path.rpartition('/')[2]}", content)
                found[-1] = msgspec.structs.replace(found[-1], sha256=digest, kept=kept)
    return Found(records, found, digest_of((record.features, record.label) for record in records))


def stream_examples(model: str, settings: KernelSettings) -> Path:
    """The folder of the examples that `inflight features follow` makes of a model's requests and their labels."""
    return settings.home / "features" / "examples" / model


def digest_of(pairs: Iterable[tuple[bytes, bytes]]) -> str:
    """SHA-256 of training data: pairs of features and label as JSON text, in order."""
    digest = hashlib.sha256()
    for features, label in pairs:
        digest.update(features + b"\t" + label + b"\n")
    return digest.hexdigest()


def _add(records: list[Record], found: list[Source], name: str, ones: Iterable[Record]) -> None:
    ones = list(ones)
    if not ones:
        raise SourceUnreadable(f"{name} has no examples")
    records += ones
    found.append(Source(name, digest_of((record.features, record.label) for record in ones), len(ones)))


def _records(source: str, examples: Iterable[tuple[int, Example]]) -> Iterator[Record]:
    encode = msgspec.json.Encoder(enc_hook=plain_scalar).encode
    for number, example in examples:
        yield Record(source, number, encode(example.features), encode(example.label), example.group)


def _files(source: str) -> Iterator[tuple[str, bytes]]:
    """The file itself, or the files of a folder by name, except hidden ones, with their contents."""
    try:
        place = parse_place(source)
    except ValueError as error:
        raise SourceUnreadable(f"the source is not valid: {error}") from error
    if not isinstance(place, Path):
        yield from _objects(place)
        return
    if not place.is_dir():
        if not place.exists():
            raise SourceUnreadable(f"{place} is neither a file nor a folder, nor `{DATASET}`, `{STREAM}` or `{LOG}`")
        yield str(place), place.read_bytes()
        return
    paths = sorted(file for file in place.iterdir() if file.is_file() and not file.name.startswith("."))
    if not paths:
        raise SourceUnreadable(f"the folder {place} has no files (subfolders are not read)")
    for path in paths:
        yield str(path), path.read_bytes()


def _objects(place: Location) -> Iterator[tuple[str, bytes]]:
    """The same behind a URL, where a folder is whatever has files."""
    if PurePosixPath(place.url).suffix.lower() in _READERS:
        try:
            yield place.url, read_file(place)
        except FileNotFoundError:
            raise SourceUnreadable(f"{place} does not exist") from None
        return
    store = open_store(place)
    keys = sorted(found.key for found in store.files("") if "/" not in found.key and not found.key.startswith("."))
    if not keys:
        raise SourceUnreadable(f"{place} has no files (subfolders are not read)")
    for key in keys:
        yield f"{place}/{key}", store.read(key)


def _keep(layers: Place, key: str, content: bytes) -> str:
    """Copy a raw file, or note that it was used again: `prune` goes by this time."""
    store = open_store(layers)
    if not store.touch(key):
        store.write_if_absent(key, content)
    return f"{store.url}/{key}"


def _of_file(model_class: type[Model], path: str, content: bytes) -> Iterator[Record]:
    if (read := _READERS.get(PurePosixPath(path).suffix.lower())) is None:
        raise SourceUnreadable(
            f"{path} is not one of {', '.join(sorted(_READERS))}: rename it or remove it from the folder"
        )
    try:
        yield from _records(path, read(model_class, content))
    except (ValueError, RecursionError) as error:
        where = f"{path} {error}" if isinstance(error, MalformedLine) else f"{path} can't be read: {error}"
        raise SourceUnreadable(where) from error


Numbered = Iterator[tuple[int, Example]]


def _csv(model_class: type[Model], content: bytes) -> Numbered:
    for number, row in CsvReader(io.BytesIO(content)).rows():
        try:
            yield number, model_class.example_from_csv_row(row)
        except KeyError as error:
            raise MalformedLine(number, f"there is no column {error}") from error
        except ValueError as error:
            raise MalformedLine(number, str(error)) from error


def _jsonl(model_class: type[Model], content: bytes) -> Numbered:
    for number, found in json_objects(io.BytesIO(content)):
        try:
            yield number, _example_of_object(model_class, found)
        except ValueError as error:
            raise MalformedLine(number, str(error)) from error


def _parquet(model_class: type[Model], content: bytes) -> Numbered:
    pa, pq = require("pyarrow", "training"), require("pyarrow.parquet", "training")
    try:
        # In this thread: if a damaged file stops the reader, its other threads go on, on memory that is freed.
        table = pq.read_table(pa.BufferReader(content), use_threads=False, pre_buffer=False)
        table.validate(full=True)
        rows = table.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"not a parquet file: {error}") from error
    for number, row in enumerate(rows, start=1):
        try:
            yield number, _example_of_object(model_class, row)
        except ValueError as error:
            raise MalformedLine(number, str(error)) from error


def _example_of_object(model_class: type[Model], found: dict[str, Any]) -> Example:
    """Parse ``{"features": {...}, "label": ...}`` or one flat object that includes the label."""
    known = {field.encode_name for field in msgspec.structs.fields(model_class.Features)}
    group = None if "group" in known else _group(found.pop("group", None))
    if isinstance(found.get("features"), dict) and "features" not in known:
        features, name = found["features"], "label"
    else:
        name = model_class.label_name
        features = {key: v for key, v in found.items() if key != name and (key in known or key not in LAYER_FIELDS)}
    if found.get(name) is None:
        raise ValueError(f"there is no label in `{name}`")
    return Example(features, label_of_value(found[name], model_class.Label), group)


def _group(found: Any) -> str | None:
    """Return a group as the string that a CSV file would have in its place."""
    if found is None or isinstance(found, str):
        return found
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    raise ValueError("`group` must be a string or an integer")


_READERS: dict[str, Callable[[type[Model], bytes], Numbered]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".parquet": _parquet,
}

"""Labelled requests of a prediction log as examples.

Anyone may send a request and report a label. Unusable ones are skipped and counted, so that they do not block the
training. A log with features that are redacted by rule is rejected as a whole.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec
from msgspec import Raw

from machine_learning_engineering.core.csv_row import label_of_cell, label_of_value
from machine_learning_engineering.core.model import Model
from machine_learning_engineering.core.table_file import CsvReader, MalformedLine, is_csv, json_objects
from machine_learning_engineering.core.validation import InvalidFeatures
from machine_learning_engineering.observability.redaction import ALL, holds_tokens
from machine_learning_engineering.training.records import (
    GIVEN,
    LogUnreadable,
    Record,
    SourceUnreadable,
    decode_label,
    limit_sources,
)

if TYPE_CHECKING:
    from machine_learning_engineering.prediction_log.store import PredictionLog, PredictionRecord


LabelledRecord = tuple[Record, str]
"""A record, and the source of its label."""


def read_log_file(
    model_class: type[Model], path: Path, source: str, skipped: Counter[str], max_share: float = 1.0
) -> Iterator[LabelledRecord]:
    """Read the log in a SQLite file; see `read_log`. Raises `LogUnreadable` if there is no file."""
    from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
    from machine_learning_engineering.prediction_log.store import PredictionLogError

    if not path.exists():
        raise LogUnreadable(f"there is no prediction log at {path}")
    try:
        with SqlitePredictionLog(path) as log:
            yield from read_log(model_class, log, source, skipped, max_share)
    except PredictionLogError as error:
        raise LogUnreadable(str(error)) from error


def read_log(
    model_class: type[Model], log: "PredictionLog", source: str, skipped: Counter[str], max_share: float = 1.0
) -> Iterator[LabelledRecord]:
    """Requests with a label, from the log or from the label file that `source` names.

    Args:
        skipped: Updated with the number of unusable requests by reason: "hashed" (a feature looks like the token of a
            redacted value, but the log does not mark it), "failed" (and withheld by a rule), "unreadable" (features
            that the model's schema rejects), "bad label", "above the share of a source", and "label of no request".
        max_share: Maximum share of the requests whose labels come from one source; see `records.limit_sources`.

    Returns:
        The requests as records, each with the source of its label.

    Raises:
        LogUnreadable: The log can't be read.
        SourceUnreadable: The labels can't be read, features are redacted by rule, or there is no example.
    """
    from machine_learning_engineering.prediction_log.store import PredictionLogError

    name, _, file = source.partition(":")
    labels = read_label_file(Path(file), model_class) if file else {}
    model, unmatched = model_class(), len(labels)
    redacted: Counter[str] = Counter()
    labelled = 0
    found: list[LabelledRecord] = []
    first = ""
    try:
        for logged in log.read(model_class.name):
            unmatched -= logged.request_id in labels
            label = labels.get(logged.request_id, logged.label)
            if not isinstance(label, Raw):
                continue
            labelled += 1
            if logged.redacted and logged.outcome == "completed":
                redacted.update(logged.redacted or ())
            elif problem := unusable(model, logged, label):
                skipped[problem[0]] += 1
                first = first or f"request {logged.request_id!r}: {problem[1]}"
            else:
                reported_by = GIVEN if logged.request_id in labels else logged.label_source or ""
                record = Record(source, len(found) + 1, bytes(logged.features), bytes(label), None)
                found.append((record, reported_by))
    except PredictionLogError as error:
        raise LogUnreadable(str(error)) from error
    if redacted:
        raise SourceUnreadable(_why_not_redacted(model_class, redacted, labelled))
    if unmatched:
        skipped["label of no request"] = unmatched
    chosen = limit_sources([reported_by for _, reported_by in found], max_share)
    if len(chosen) < len(found):
        skipped["above the share of a source"] = len(found) - len(chosen)
    if not chosen:
        raise SourceUnreadable(_why_none(model_class, name, file, len(labels), labelled, skipped, first))
    yield from (found[index] for index in chosen)


def unusable(model: Model, logged: "PredictionRecord", label: Raw) -> tuple[str, str] | None:
    """Why a labelled request is not an example: the reason to count and a message."""
    if logged.redacted:
        return "failed", "it failed, and its features are withheld"
    if holds_tokens(logged.features):
        return "hashed", "a feature looks like a hashed value"
    try:
        model.decode(logged.features)
    except InvalidFeatures as error:
        return "unreadable", str(error)
    try:
        decode_label(type(model).Label, label)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return "bad label", f"label `{model.label_name}`: {error}"
    return None


def _why_not_redacted(model_class: type[Model], redacted: Mapping[str, int], labelled: int) -> str:
    names = "all features" if ALL in redacted else ", ".join(f"`{name}`" for name in sorted(redacted))
    return (
        f"in {max(redacted.values())} of {labelled} labelled requests the prediction log does not hold {names} as sent "
        f"(INFLIGHT_LOG_REDACT, or redacted_features of {model_class.__name__}): a model trained on them could "
        "not use real ones; train on the original data, with -ds FILE"
    )


def _why_none(
    model_class: type[Model],
    log: str,
    file: str,
    given: int,
    labelled: int,
    skipped: Mapping[str, int],
    first: str,
) -> str:
    if labelled:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
        what = f"no labelled request for `{model_class.name}` in the prediction log is a usable example"
        return f"{what}: {reasons}{'; ' if first else ''}{first}"
    if file:
        return (
            f"none of the {given} labels in {file} belongs to a request for `{model_class.name}` in the prediction log"
        )
    return f"no request for `{model_class.name}` in the prediction log has a label: give {log}:LABELS_FILE"


def read_label_file(path: Path, model_class: type[Model]) -> dict[str, Raw]:
    """JSON text of each label by request id, from a .csv or .jsonl file with the columns request_id and label.

    Of two labels of one request the last one counts.

    Raises:
        SourceUnreadable: The file can't be read or lacks a column, or a line of it has no label.
    """
    try:
        with path.open("rb") as file:
            return {
                request_id: Raw(msgspec.json.encode(label)) for request_id, label in _labels(path, file, model_class)
            }
    except (OSError, ValueError) as error:
        raise SourceUnreadable(
            f"the labels in {path} can't be read ({error}): it needs request_id and label"
        ) from error


def _labels(path: Path, file: BinaryIO, model_class: type[Model]) -> Iterator[tuple[str, Any]]:
    lines: Iterator[tuple[int, dict[str, Any]]] = CsvReader(file).rows() if is_csv(path) else json_objects(file)
    convert = label_of_cell if is_csv(path) else label_of_value
    for number, line in lines:
        if missing := [name for name in ("request_id", "label") if name not in line]:
            raise MalformedLine(number, f"the column {missing[0]!r} is missing")
        if not isinstance(line["request_id"], str):
            raise MalformedLine(number, "request_id is not a string")
        yield line["request_id"], convert(line["label"], model_class.Label)

"""The labelled requests of a prediction log, as examples.

Anyone may send a request and report a label. So that one of them does not keep the others from being learned from, what
is no example is set aside and counted. But a log whose features are redacted by rule is refused as a whole.
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from machine_learning_engineering.core.csv_row import label_of_cell
from machine_learning_engineering.core.model import Model
from machine_learning_engineering.core.validation import InvalidFeatures
from machine_learning_engineering.observability.redaction import ALL, holds_tokens
from machine_learning_engineering.training.records import LogUnreadable, Record, SourceUnreadable

if TYPE_CHECKING:
    from machine_learning_engineering.prediction_log.store import PredictionLog, PredictionRecord


def of_log_file(model_class: type[Model], path: Path, source: str, skipped: Counter[str]) -> Iterator[Record]:
    """See `of_log`; the log is a SQLite file, and LogUnreadable if there is none."""
    from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
    from machine_learning_engineering.prediction_log.store import PredictionLogError

    if not path.exists():
        raise LogUnreadable(f"there is no prediction log at {path}")
    try:
        with SqlitePredictionLog(path) as log:
            yield from of_log(model_class, log, source, skipped)
    except PredictionLogError as error:
        raise LogUnreadable(str(error)) from error


def of_log(model_class: type[Model], log: "PredictionLog", source: str, skipped: Counter[str]) -> Iterator[Record]:
    """The requests that have a label, in the log or in the file of labels that `source` names.

    Args:
        skipped: gets the number of those that are no examples, by reason: "hashed" (a feature looks like the token of
            a value, but the log does not say that it is redacted), "failed" (and withheld by a rule), "unreadable"
            (features that the model's schema refuses), "bad label", and "label of no request".

    Raises:
        LogUnreadable: the log can't be read.
        SourceUnreadable: the labels can't be read, features are redacted by rule, or there is no example.
    """
    from machine_learning_engineering.prediction_log.store import PredictionLogError

    name, _, file = source.partition(":")
    labels = read_label_file(Path(file), model_class) if file else {}
    model, unmatched = model_class(), len(labels)
    redacted: Counter[str] = Counter()
    labelled = number = 0
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
            elif refused := _refusal(model, logged, label):
                skipped[refused[0]] += 1
                first = first or f"request {logged.request_id!r}: {refused[1]}"
            else:
                number += 1
                yield Record(source, number, bytes(logged.features), bytes(label), None)
    except PredictionLogError as error:
        raise LogUnreadable(str(error)) from error
    if redacted:
        raise SourceUnreadable(_why_not_redacted(model_class, redacted, labelled))
    if unmatched:
        skipped["label of no request"] = unmatched
    if not number:
        raise SourceUnreadable(_why_none(model_class, name, file, len(labels), labelled, skipped, first))


def _refusal(model: Model, logged: "PredictionRecord", label: Raw) -> tuple[str, str] | None:
    """Why a labelled request is no example: the reason to count, and in words."""
    if logged.redacted:
        return "failed", "it failed, and its features are withheld"
    if holds_tokens(logged.features):
        return "hashed", "a feature looks like a hashed value"
    try:
        model.decode(logged.features)
    except InvalidFeatures as error:
        return "unreadable", str(error)
    try:
        answer = msgspec.json.decode(label, type=type(model).Label)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return "bad label", f"label `{model.label_name}`: {error}"
    if answer is None or (isinstance(answer, float) and not math.isfinite(answer)):
        return "bad label", f"label `{model.label_name}` is missing"
    return None


def _why_not_redacted(model_class: type[Model], redacted: Mapping[str, int], labelled: int) -> str:
    names = "all features" if ALL in redacted else ", ".join(f"`{name}`" for name in sorted(redacted))
    return (
        f"in {max(redacted.values())} of {labelled} labelled requests the prediction log does not hold {names} as sent "
        f"(INFLIGHT_LOG_REDACT, or redacted_features of {model_class.__name__}): a model that is trained on them "
        "can't read real ones; train on the data where it comes from, with -ds FILE"
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
        what = f"no labelled request for `{model_class.name}` in the prediction log can be learned from"
        return f"{what}: {reasons}; {first}"
    if file:
        return f"none of the {given} labels in {file} is of a request for `{model_class.name}` in the prediction log"
    return f"no request for `{model_class.name}` in the prediction log has a label: give {log}:LABELS_FILE"


def read_label_file(path: Path, model_class: type[Model]) -> dict[str, Raw]:
    """The JSON text of each label by request id, of a .csv or .jsonl file with the columns request_id and label.

    Raises:
        SourceUnreadable: the file can't be read or lacks a column.
    """
    try:
        content = path.read_bytes()
        if path.suffix.lower() == ".csv":
            lines: Iterable[dict[str, Any]] = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
            found = {line["request_id"]: label_of_cell(line["label"], model_class.Label) for line in lines}
        else:
            lines = (msgspec.json.decode(line, type=dict[str, Any]) for line in content.splitlines() if line.strip())
            found = {line["request_id"]: line["label"] for line in lines}
        return {request_id: Raw(msgspec.json.encode(label)) for request_id, label in found.items()}
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        what = f"the column {error} is missing" if isinstance(error, KeyError) else str(error)
        raise SourceUnreadable(f"the labels in {path} can't be read ({what}): it needs request_id and label") from error

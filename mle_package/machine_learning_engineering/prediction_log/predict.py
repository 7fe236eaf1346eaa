"""Predicting with a log: each row is validated, answered or failed by itself, and kept.

What the log does not take is spooled to disk, as lines of JSON, until `replay_spool` brings it in.
"""

import fcntl
import json
import logging
import os
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct

from machine_learning_engineering.core import files as durable
from machine_learning_engineering.core.error_text import raised
from machine_learning_engineering.core.json_values import finite_json
from machine_learning_engineering.core.model import MethodNotImplemented, Model
from machine_learning_engineering.core.validation import InvalidFeatures, malformed
from machine_learning_engineering.events.schemas import Error
from machine_learning_engineering.prediction_log.store import PredictionLog, PredictionRecord

logger = logging.getLogger(__name__)

Request = Mapping[str, Any] | bytes | Raw | Struct
"""The features of one request: as JSON values, as JSON text, or as the model's `Features`."""

ATTEMPTS = 3
"""So often a batch is offered to the log before it is spooled."""


class PredictionsSpooled(UserWarning):
    """A log did not take predictions; they are on disk instead."""


class PredictionsNotLogged(Exception):
    """Neither the log nor the disk took the predictions, which are in `answers`."""

    def __init__(self, message: str, answers: "Sequence[Answer]") -> None:
        super().__init__(message)
        self.answers = answers


class Answer(NamedTuple):
    """The outcome of one row: a `Prediction`, or an error."""

    request_id: str
    prediction: Any | None
    error: Error | None


class PredictionResults(NamedTuple):
    """One answer a request, in order; `spool` is the file that holds them if the log failed, for `log_error`."""

    answers: list[Answer]
    spool: Path | None
    log_error: str | None


def predict_with_logging(
    model: Model,
    requests: Sequence[Request],
    log: PredictionLog,
    *,
    spool_dir: Path,
    request_ids: Sequence[str] | None = None,
    pause: float = 0.1,
) -> PredictionResults:
    """Answer requests and keep every row with its outcome; see `MLEModel.predict_with_logging`."""
    ids = [uuid.uuid4().hex for _ in requests] if request_ids is None else list(request_ids)
    if len(ids) != len(requests) or not all(isinstance(one, str) and 1 <= len(one) <= 256 for one in ids):
        raise ValueError(f"{len(requests)} requests need as many request_ids, each a text of 1 to 256 characters")
    created_at = datetime.now(UTC)
    outcomes: list[_Outcome | None] = [None] * len(requests)
    features: list[Raw] = []
    valid: list[tuple[int, Any]] = []
    for index, request in enumerate(requests):
        try:
            raw = _encoded(request)
            row = model.decode(raw)
        except InvalidFeatures as error:
            features.append(_loggable(request))
            outcomes[index] = _Outcome(None, UNSET, Error("invalid_features", str(error)), 0.0, 0)
        else:
            features.append(Raw(raw))
            valid.append((index, row))
    for (index, _), predicted in zip(valid, _predict(model, [row for _, row in valid]), strict=True):
        outcomes[index] = predicted
    answers, records = [], []
    for request_id, raw_features, outcome in zip(ids, features, outcomes, strict=True):
        assert outcome is not None
        answers.append(Answer(request_id, outcome.prediction, outcome.error))
        records.append(
            PredictionRecord(
                request_id=request_id,
                model=model.name,
                model_version=model.version,
                outcome="completed" if outcome.error is None else "failed",
                features=raw_features,
                created_at=created_at,
                score_seconds=outcome.seconds,
                batch_size=outcome.size,
                prediction=outcome.encoded,
                error=UNSET if outcome.error is None else outcome.error,
            )
        )
    failure = _keep(log, records, pause) if records else None
    if failure is None:
        return PredictionResults(answers, None, None)
    path = spool_dir / f"{model.name}.jsonl"
    try:
        _spool(path, records)
    except OSError as error:
        message = f"{len(records)} predictions of `{model.name}` are neither logged ({failure}) nor spooled ({error})"
        raise PredictionsNotLogged(message, answers) from error
    warnings.warn(
        f"{len(records)} predictions of `{model.name}` were not logged ({failure}). They are in {path}: "
        "call replay_spool() once the log is back",
        PredictionsSpooled,
        stacklevel=3,
    )
    return PredictionResults(answers, path, failure)


def replay_spool(log: PredictionLog, spool_dir: Path) -> int:
    """Bring what was spooled into the log and empty the spool; how many records the log did not have yet.

    A line that a crash cut off is moved to a file beside, named ``.damaged``, with a warning. If the log fails, its
    error is raised and the spool stays as it is; it may then be replayed again.
    """
    count = 0
    for path in sorted(spool_dir.glob("*.jsonl")):
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            records, damaged = [], []
            # Not splitlines(), which also breaks a line where white space between the tokens of a request is a "\r".
            for line in filter(None, file.read().split(b"\n")):
                try:
                    records.append(msgspec.json.decode(line, type=PredictionRecord))
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    damaged.append(line)
            if records:
                count += log.append(records)
            if damaged:
                aside = path.with_suffix(".damaged")
                with aside.open("ab") as kept:
                    kept.write(b"\n".join(damaged) + b"\n")
                    kept.flush()
                    os.fsync(kept.fileno())
                warnings.warn(f"{len(damaged)} damaged lines were moved to {aside}", PredictionsSpooled, stacklevel=2)
            # Emptied, not removed: another process may wait for the lock on this very file.
            file.truncate(0)
            os.fsync(file.fileno())
    return count


class _Outcome(NamedTuple):
    """What came of a row; `seconds` and `size` are of the predict call that it was in."""

    prediction: Any | None
    encoded: Any
    error: Error | None
    seconds: float
    size: int


def _predict(model: Model, rows: Sequence[Any]) -> Iterator[_Outcome]:
    """One outcome a row, in order. If a call raises, halve and try again, until the rows at fault stand alone."""
    if not rows:
        return
    started = time.perf_counter()
    try:
        predictions = model.predict(rows)
        if len(predictions) != len(rows):
            raise ValueError(f"predict returned {len(predictions)} predictions for {len(rows)} rows")
        encoded = list(map(Raw, finite_json(predictions)))
    except MethodNotImplemented:
        raise
    except Exception as error:
        if len(rows) == 1:
            logger.warning("model %s: predict raised for one row", model.name, exc_info=True)
            # The type and the place, and no more: a model's message may quote what it was given.
            failure = Error("prediction_error", f"model {model.name}: predict raised {raised(error)}")
            yield _Outcome(None, UNSET, failure, time.perf_counter() - started, 1)
            return
        middle = len(rows) // 2
        yield from _predict(model, rows[:middle])
        yield from _predict(model, rows[middle:])
        return
    seconds = time.perf_counter() - started
    for prediction, raw in zip(predictions, encoded, strict=True):
        yield _Outcome(prediction, raw, None, seconds, len(rows))


def _encoded(request: Request) -> bytes:
    """The request as JSON text. A NaN, which the encoder would write as null, is refused here."""
    if isinstance(request, bytes | Raw):
        return bytes(request)
    try:
        if isinstance(request, Mapping):
            request = dict(request)
        raw = msgspec.json.encode(request)
        if b"null" in raw and (complaint := malformed(json.dumps(msgspec.to_builtins(request)).encode())):
            raise InvalidFeatures(complaint)
    except (TypeError, OverflowError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidFeatures(f"features can't be written as JSON: {error}") from error
    return raw


def _loggable(request: Request) -> Raw:
    """Features that were refused, as they are if they are JSON, else as a JSON text that quotes them."""
    if isinstance(request, bytes | Raw):
        text: Any = bytes(request)
        try:
            msgspec.json.decode(text)
            return Raw(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return Raw(msgspec.json.encode(text.decode(errors="replace")))
    return Raw(msgspec.json.encode(repr(request).encode(errors="replace").decode()))


def _keep(log: PredictionLog, records: Sequence[PredictionRecord], pause: float) -> str | None:
    """Append with retries; what the last attempt raised, or None."""
    failure = None
    for attempt in range(ATTEMPTS):
        try:
            log.append(records)
            return None
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
        if attempt + 1 < ATTEMPTS:
            time.sleep(pause * 2**attempt)
    return failure


def _spool(path: Path, records: Sequence[PredictionRecord]) -> None:
    """Append lines to a file, through to the disk."""
    # A text in JSON holds no line break, so that any is white space between the tokens of raw features.
    lines = (msgspec.json.encode(record).replace(b"\n", b" ") + b"\n" for record in records)
    durable.append(path, b"".join(lines))

"""Prediction with logging: each row is validated, predicted and logged on its own.

If the log fails, rows are spooled to disk as JSON lines, which `replay_spool` loads into the log later.
"""

import fcntl
import logging
import os
import time
import uuid
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from machine_learning_engineering.core import files as durable
from machine_learning_engineering.core.faults import FAULT_SECONDS
from machine_learning_engineering.core.model import Model
from machine_learning_engineering.events.schemas import Error
from machine_learning_engineering.prediction_log.rows import Request, score_rows
from machine_learning_engineering.prediction_log.store import PredictionLog, PredictionRecord

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""Append attempts before records are spooled."""


class PredictionsSpooled(UserWarning):
    """The log failed; the predictions were spooled to disk."""


class PredictionsNotLogged(Exception):
    """Both the log and the spool failed. `outcomes` holds the predictions."""

    def __init__(self, message: str, outcomes: "Sequence[PredictionOutcome]") -> None:
        super().__init__(message)
        self.outcomes = outcomes


class PredictionOutcome(NamedTuple):
    """The outcome of one row: a `Prediction` or an error."""

    request_id: str
    prediction: Any | None
    error: Error | None


class PredictionResults(NamedTuple):
    """One outcome per request, in order. If the log failed with `log_error`, `spool` is the file with the records."""

    outcomes: list[PredictionOutcome]
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
    fault_timeout: float = FAULT_SECONDS,
) -> PredictionResults:
    """Predict requests and log each row with its outcome; see `MLEModel.predict_with_logging`.

    Args:
        pause: Seconds before the first retry of the log; doubled with each further one.
        fault_timeout: Seconds for which a call of the model is repeated that raises faults of the machine.

    Raises:
        MachineFaultError: The fault did not pass. Nothing is logged, since no request has an outcome.
    """
    ids = [uuid.uuid4().hex for _ in requests] if request_ids is None else list(request_ids)
    if len(ids) != len(requests) or not all(isinstance(one, str) and 1 <= len(one) <= 256 for one in ids):
        raise ValueError(f"{len(requests)} requests need as many request_ids, each a string of 1 to 256 characters")
    created_at = datetime.now(UTC)
    scored = list(zip(ids, score_rows(model, requests, fault_timeout), strict=True))
    outcomes = [PredictionOutcome(request_id, row.prediction, row.error or None) for request_id, row in scored]
    records = [
        PredictionRecord(
            request_id=request_id,
            model=model.name,
            model_version=model.version,
            outcome="completed" if row.error is UNSET else "failed",
            features=row.features,
            created_at=created_at,
            score_seconds=row.seconds,
            batch_size=row.batch_size,
            prediction=row.encoded,
            error=row.error,
        )
        for request_id, row in scored
    ]
    failure = _append_with_retry(log, records, pause) if records else None
    if failure is None:
        return PredictionResults(outcomes, None, None)
    path = spool_dir / f"{model.name}.jsonl"
    try:
        _spool(path, records)
    except OSError as error:
        message = (
            f"{len(records)} predictions of `{model.name}` are neither logged ({failure}) nor spooled ({error}): "
            f"make {spool_dir} writable, or log the error's `outcomes` yourself"
        )
        raise PredictionsNotLogged(message, outcomes) from error
    warnings.warn(
        f"{len(records)} predictions of `{model.name}` were not logged ({failure}). They are in {path}: "
        "call replay_spool() once the log is reachable",
        PredictionsSpooled,
        stacklevel=3,
    )
    return PredictionResults(outcomes, path, failure)


def replay_spool(log: PredictionLog, spool_dir: Path) -> int:
    """Load spooled records into the log and empty the spool.

    Lines truncated by a crash are moved to a ``.damaged`` file next to the spool, with a warning. If the log fails, its
    error is raised and the spool is unchanged, so the replay can be retried.

    Returns:
        The number of records that were not yet in the log.
    """
    count = 0
    for path in sorted(spool_dir.glob("*.jsonl")):
        with os.fdopen(durable.open_private(path, os.O_RDWR), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            records, damaged = [], []
            # Not splitlines(): a request may hold "\r" as white space between its tokens.
            for line in filter(None, file.read().split(b"\n")):
                try:
                    records.append(msgspec.json.decode(line, type=PredictionRecord))
                except (ValueError, RecursionError):
                    damaged.append(line)
            if records:
                count += log.append(records)
            if damaged:
                target = path.with_suffix(".damaged")
                durable.append(target, b"\n".join(damaged) + b"\n")
                warnings.warn(f"{len(damaged)} damaged lines were moved to {target}", PredictionsSpooled, stacklevel=2)
            # Truncated, not removed: another process may be waiting for the lock on this file.
            file.truncate(0)
            os.fsync(file.fileno())
    return count


def _append_with_retry(log: PredictionLog, records: Sequence[PredictionRecord], pause: float) -> str | None:
    """Append records to the log. Returns the error of the last attempt, or None."""
    failure = None
    for attempt in range(MAX_ATTEMPTS):
        try:
            log.append(records)
            return None
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
        if attempt + 1 < MAX_ATTEMPTS:
            time.sleep(pause * 2**attempt)
    return failure


def _spool(path: Path, records: Sequence[PredictionRecord]) -> None:
    """Append records to a file of JSON lines and sync it to disk."""
    # A JSON string holds no raw line break, so each one is white space between the tokens of raw features.
    lines = (msgspec.json.encode(record).replace(b"\n", b" ") + b"\n" for record in records)
    durable.append(path, b"".join(lines))

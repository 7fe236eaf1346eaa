"""The interface of a prediction log: its records, operations and errors."""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Literal, Protocol

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from machine_learning_engineering.events.schemas import Error, ModelName, RequestId, Seconds, Timestamp
from machine_learning_engineering.prediction_log.frames import records_frame


class PredictionLogError(Exception):
    """The log can't be read or written. The message names the log and the reason."""


class NotLogged(LookupError):
    """A label names a request that is not in the log."""


class PredictionRecord(Struct, frozen=True, kw_only=True):
    """One request and its outcome, in the fields of `events.schemas.PredictionLogged`.

    `features`, `prediction` and `label` are JSON values. `created_at` is the time at which the request was accepted.
    `model_version` is empty if no model of that name was served. `score_seconds` is the duration of the row's predict
    call and `batch_size` the number of rows in it, 0 if the features were rejected. `prediction` is set if the outcome
    is "completed", `error` if it is "failed", `label` once it is known. `label_source` is the source that the label's
    record named (`ce_source`), if the log keeps it. `redacted` names the features that the log does not hold as they
    were sent; ``*`` stands for all of them.
    """

    request_id: RequestId
    model: ModelName
    model_version: str
    outcome: Literal["completed", "failed"]
    features: Raw
    created_at: Timestamp
    score_seconds: Seconds
    batch_size: int
    prediction: Raw | UnsetType = UNSET
    error: Error | UnsetType = UNSET
    label: Raw | UnsetType = UNSET
    label_source: str | UnsetType = UNSET
    redacted: list[str] | UnsetType = UNSET


class PredictionLog(Protocol):
    """A store of prediction records. Each method raises PredictionLogError if the log fails.

    `testing.log_store` checks the contract of any implementation.
    """

    def append(self, records: Iterable[PredictionRecord]) -> int:
        """Store all records or none. They are synced to disk when this returns.

        The log keeps the first of two records with the same request id, so an append may be retried.

        Returns:
            The number of new records.
        """

    def read(
        self,
        model: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        version: str | None = None,
    ) -> Iterator[PredictionRecord]:
        """Read records, oldest first.

        Args:
            model: The model's name.
            since: Earliest `created_at`, inclusive; timezone-aware.
            until: Latest `created_at`, exclusive; timezone-aware.
            version: Only records of this version.
        """

    def label(self, request_id: str, label: Any) -> None:
        """Set the true label of a request, a JSON value. A later label replaces an earlier one.

        Raises:
            NotLogged: The request is not in the log.
            TypeError: The label can't be encoded as JSON.
            ValueError: The label holds NaN or an infinity.
        """

    def to_pandas(
        self,
        model: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        version: str | None = None,
    ) -> Any:
        """Read records as a DataFrame of pandas, indexed by `request_id`, oldest first.

        It has one column for each feature (``features.carat``) and each field of the prediction
        (``prediction.price``), `label`, and the columns that `prediction_log.frames.records_frame` lists. All rows are
        in memory.

        Args:
            model: As those of `read`, like the others.

        Raises:
            ImportError: pandas is not installed.
        """
        return records_frame(self.read(model, since=since, until=until, version=version))


def encode_label(label: Any) -> bytes:
    """Encode a label as JSON.

    Raises:
        TypeError: The label can't be encoded as JSON.
        ValueError: It holds NaN or an infinity, which would become null.
    """
    try:
        json.dumps(msgspec.to_builtins(label), allow_nan=False)
    except ValueError as error:
        raise ValueError(f"label {label!r} is not a JSON value, give a finite one: {error}") from error
    return msgspec.json.encode(label)

"""The port of a prediction log: its records, its operations and its errors."""

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Literal, Protocol

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from machine_learning_engineering.events.schemas import Error, ModelName, RequestId, Seconds, Timestamp


class PredictionLogError(Exception):
    """The log can't be read or written; the message says which and why."""


class NotLogged(LookupError):
    """A label was given for a request that is not in the log."""


class PredictionRecord(Struct, frozen=True, kw_only=True):
    """One request and its outcome, in the fields of `events.PredictionLogged` where they apply.

    `features`, `prediction` and `label` are JSON values. `score_seconds` is the time of the predict call that the row
    was in, and `batch_size` the number of rows in it (0 where the features were refused). `prediction` is set where
    the outcome is "completed", `error` where it is "failed", `label` once it is known. `created_at` is when the request
    was accepted, and `model_version` is empty where no model of that name was served. `redacted` names the features
    that the stream's log does not hold as they were sent, ``*`` all of them.
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
    redacted: list[str] | UnsetType = UNSET


class PredictionLog(Protocol):
    """Every implementation keeps the same contract; each method raises PredictionLogError if the log fails."""

    def append(self, records: Iterable[PredictionRecord]) -> int:
        """Keep records, all or none, safely on disk when this returns; how many were new.

        Of two with the same request id the first wins, so that appending again after an error is safe.
        """

    def read(
        self,
        model: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        version: str | None = None,
    ) -> Iterator[PredictionRecord]:
        """The records of a model (of a version), oldest first, created at `since` or later and before `until`."""

    def label(self, request_id: str, label: Any) -> None:
        """Set the true answer of a request, a JSON value. A later label replaces an earlier one.

        Raises:
            NotLogged: there is no such request.
            TypeError: the label can't be written as JSON.
            ValueError: it holds a NaN or an infinity.
        """


def encode_label(label: Any) -> bytes:
    """A label as JSON text.

    Raises:
        TypeError: it can't be written as JSON.
        ValueError: it holds a NaN or an infinity, which would become null.
    """
    try:
        json.dumps(msgspec.to_builtins(label), allow_nan=False)
    except ValueError as error:
        raise ValueError(f"a label is a JSON value, {label!r} is not: {error}") from error
    return msgspec.json.encode(label)

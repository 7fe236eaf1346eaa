"""Scoring of requests: each row is validated and predicted on its own, as the worker does it."""

import json
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from machine_learning_engineering.core.error_text import describe_origin
from machine_learning_engineering.core.faults import FaultRetry, MachineFaultError
from machine_learning_engineering.core.json_values import plain_scalar
from machine_learning_engineering.core.model import MethodNotImplemented, Model
from machine_learning_engineering.core.predict import predict_or_bisect
from machine_learning_engineering.core.validation import (
    InvalidFeatures,
    find_non_json_value,
    rejection_message,
    safe_field_path,
)
from machine_learning_engineering.events.schemas import MAX_ERROR_CHARACTERS, Error

logger = logging.getLogger(__name__)

Request = Mapping[str, Any] | bytes | Raw | Struct
"""Features of one request: JSON values, JSON text, or the model's `Features`."""


class ScoredRow(Struct, frozen=True, gc=False):
    """The features of a row, its prediction or error, and the duration and batch size of its predict call."""

    features: Raw
    prediction: Any | None = None
    encoded: Raw | UnsetType = UNSET
    error: Error | UnsetType = UNSET
    seconds: float = 0.0
    batch_size: int = 0


def score_rows(
    model: Model,
    requests: Sequence[Request],
    fault_timeout: float,
    *,
    max_bytes: int | None = None,
    log_failures: bool = True,
) -> list[ScoredRow]:
    """Validate and predict requests, in order. A row that fails does so on its own.

    Args:
        model: A fitted model.
        requests: Features of each row.
        fault_timeout: Seconds for which a call of the model is repeated that raises faults of the machine.
        max_bytes: Maximum size of a prediction as JSON.
        log_failures: Whether each row that the model's code fails on is a warning, with its traceback.

    Raises:
        MachineFaultError: The fault did not pass.
        MethodNotImplemented: The model is not complete.
    """
    scored: dict[int, ScoredRow] = {}
    valid: list[tuple[int, Raw, Any]] = []
    retry = FaultRetry(fault_timeout)
    for index, request in enumerate(requests):
        try:
            raw = _encoded(request)
            valid.append((index, Raw(raw), retry(partial(model.decode, raw))))
        except (MachineFaultError, MethodNotImplemented):
            raise
        except Exception as error:
            scored[index] = ScoredRow(_loggable(request), error=_refusal(model, error, log_failures))
    options: dict[str, Any] = {"max_bytes": max_bytes, "propagate": (MethodNotImplemented,), "retry": retry}
    for call in predict_or_bisect(model, [row for *_, row in valid], **options):
        rows = valid[call.rows]
        if call.error is not None:
            if log_failures:
                logger.warning("model %s: predict raised for one row", model.name, exc_info=call.error)
            # Type and origin only: the message may quote feature values.
            failure = Error("prediction_error", f"model {model.name}: predict raised {describe_origin(call.error)}")
            [(index, features, _)] = rows
            scored[index] = ScoredRow(features, error=failure, seconds=call.seconds, batch_size=1)
            continue
        for (index, features, _), prediction, encoded in zip(rows, call.predictions, call.encoded, strict=True):
            scored[index] = ScoredRow(features, prediction, Raw(encoded), UNSET, call.seconds, len(rows))
    return [scored[index] for index in range(len(requests))]


def _refusal(model: Model, error: Exception, log_failures: bool) -> Error:
    """Why features were not decoded. What is no ValueError is a mistake in the model's code."""
    if isinstance(error, ValueError):
        return Error("invalid_features", rejection_message(error)[:MAX_ERROR_CHARACTERS])
    what = f"model {model.name}: decode raised {describe_origin(error)}"
    if log_failures:
        logger.warning(what, exc_info=error)
    return Error("prediction_error", what)


def _encoded(request: Request) -> bytes:
    """Encode a request as JSON. NaN is rejected here because the encoder would write it as null."""
    if isinstance(request, bytes | Raw):
        return bytes(request)
    try:
        if isinstance(request, Mapping):
            request = dict(request)
        raw = msgspec.json.encode(request, enc_hook=plain_scalar)
        if b"null" in raw:
            plain = msgspec.to_builtins(request, enc_hook=plain_scalar)
            complaint = find_non_json_value(json.dumps(plain).encode())
            if complaint:
                raise InvalidFeatures(complaint)
    except (TypeError, OverflowError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidFeatures(f"{_unwritable(request)} can't be written as JSON: {error}") from error
    return raw


def _unwritable(request: Request) -> str:
    """The feature of a request that has no JSON form."""
    for name, value in request.items() if isinstance(request, Mapping) else ():
        try:
            msgspec.json.encode({name: value}, enc_hook=plain_scalar)
        except (TypeError, OverflowError, UnicodeEncodeError, RecursionError):
            return f"feature `{safe_field_path(str(name))}`"
    return "features"


def _loggable(request: Request) -> Raw:
    """Rejected features for the log: unchanged if they are JSON, otherwise quoted in a JSON string."""
    if isinstance(request, bytes | Raw):
        text: Any = bytes(request)
        try:
            msgspec.json.decode(text)
            return Raw(text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return Raw(msgspec.json.encode(text.decode(errors="replace")))
    return Raw(msgspec.json.encode(repr(request).encode(errors="replace").decode()))

"""Results of the stream as HTTP responses. A failed prediction is a problem, never a success with an error in it."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec
from starlette.responses import Response

from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.schemas import PredictionCompleted, PredictionFailed
from producers.gateway.catalog import ServedModel
from producers.gateway.predictor import UNQUOTED, location
from producers.gateway.problems import Problem

REQUEST_ID, MODEL_VERSION = "x-request-id", "x-model-version"
# As `core.validation.explain` begins its messages.
_FIELD = re.compile(r"feature `([A-Za-z0-9_.\[\]-]{1,200})` ")
_PROBLEMS = {
    "unknown_model": "unknown-model",
    "invalid_features": "invalid-features",
    "prediction_error": "prediction-error",
}
_encode = msgspec.json.Encoder().encode


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A response in JSON."""
    return Response(_encode(content), status, headers, "application/json")


def header(text: str) -> str:
    """A text as the value of a header: ids of requests that came over Kafka may have any characters."""
    return quote(text, safe=UNQUOTED)


def running(request_id: str) -> Response:
    """202: the request is accepted, and its result will be elsewhere."""
    path = location(request_id)
    content = {"request_id": request_id, "status": "running", "location": path}
    return json_response(content, 202, {"location": path, "retry-after": "1", REQUEST_ID: header(request_id)})


def timeout(request_id: str) -> Problem:
    """504: the request is accepted, and its result will be elsewhere."""
    path = location(request_id)
    message = f"the request is accepted and still running: get its result at {path}"
    headers = {"location": path, "retry-after": "1", REQUEST_ID: header(request_id)}
    return Problem("prediction-timeout", message, headers=headers, request_id=request_id)


def failure(result: PredictionFailed, model: ServedModel | None) -> Problem:
    """The problem of a failed prediction."""
    error = result.error
    field = _FIELD.match(error.message)
    at_fault = error.type == "invalid_features"
    return Problem(
        _PROBLEMS.get(error.type, "prediction-error"),
        error.message,
        headers={REQUEST_ID: header(result.request_id)},
        field=field[1] if field and at_fault else None,
        example=model.example if model is not None and at_fault else None,
        request_id=result.request_id,
    )


def one(result: bytes, model: ServedModel | None, *, flat: bool) -> Response:
    """The response for one row.

    Args:
        result: as on the topic of results.
        model: for an example, if the features are at fault.
        flat: the prediction's own fields, with the request id beside them.

    Raises:
        Problem: the prediction failed.
    """
    event = _decode(result)
    if not isinstance(event, PredictionCompleted):
        raise failure(event, model)
    headers = {REQUEST_ID: header(event.request_id), MODEL_VERSION: header(event.model_version)}
    if not flat:
        return json_response(_plain(event), 200, headers)
    try:
        fields = msgspec.json.decode(event.prediction)
    except (ValueError, RecursionError):
        raise _unreadable(event.request_id) from None
    if not isinstance(fields, dict):
        fields = {"prediction": fields}
    # A model's own field of that name stays; the headers have both in any case.
    return json_response({"request_id": event.request_id, "model_version": event.model_version} | fields, 200, headers)


def many(request_id: str, results: Sequence[bytes], model: ServedModel | None) -> Response:
    """The response for the rows of a batch: 200 if all are predicted, 207 if some.

    Raises:
        Problem: none is predicted; it has the problem of each row.
    """
    decoded = [_decode(result) for result in results]
    rows = [_row(one, None) for one in decoded]
    failed = [one for one in decoded if not isinstance(one, PredictionCompleted)]
    if failed and len(failed) == len(decoded):
        first = failure(failed[0], model)
        members = first.members | {"request_id": request_id, "problems": rows}
        raise Problem(first.kind, f"no row could be predicted; the first: {first.detail}", **members)
    return json_response(
        {"request_id": request_id, "predictions": rows}, 207 if failed else 200, {REQUEST_ID: header(request_id)}
    )


def row(result: bytes, model: ServedModel | None) -> dict[str, Any]:
    """The outcome of a row as JSON values: its prediction, or its problem.

    Args:
        result: as on the topic of results.
        model: for an example, if the features are at fault.

    Raises:
        Problem: the result can't be read.
    """
    return _row(_decode(result), model)


def _row(event: PredictionCompleted | PredictionFailed, model: ServedModel | None) -> dict[str, Any]:
    return _plain(event) if isinstance(event, PredictionCompleted) else _failed_row(event, model)


def _decode(result: bytes) -> PredictionCompleted | PredictionFailed:
    try:
        return events.decode_result(result)
    except (ValueError, RecursionError):
        raise _unreadable(None) from None


def _unreadable(request_id: str | None) -> Problem:
    # No worker of ours writes such a record.
    message = "the result on the stream can't be read: see which other program writes to the topic of results"
    return Problem("internal-error", message, request_id=request_id)


def _plain(event: PredictionCompleted) -> dict[str, Any]:
    return {
        "request_id": event.request_id,
        "model": event.model,
        "model_version": event.model_version,
        "prediction": event.prediction,
    }


def _failed_row(event: PredictionFailed, model: ServedModel | None) -> dict[str, Any]:
    return {"request_id": event.request_id, "model": event.model, "problem": failure(event, model).document()}

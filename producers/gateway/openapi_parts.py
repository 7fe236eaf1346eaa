"""The parts of the OpenAPI document that are the same for all models."""

from typing import Any

from producers.gateway.problems import CONTENT_TYPE, PROBLEMS, TYPE

IDEMPOTENCY_KEY = "[A-Za-z0-9][A-Za-z0-9._:@=+-]{0,199}"
"""Pattern of an `Idempotency-Key`, which becomes the id of a request."""


def reference(part: str, name: str) -> dict[str, Any]:
    """A reference to a component."""
    return {"$ref": f"#/components/{part}/{name}"}


def json_content(schema: dict[str, Any], example: Any = None) -> dict[str, Any]:
    """Content of the type `application/json`."""
    return {"application/json": {"schema": schema} | ({} if example is None else {"example": example})}


def body(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    """A required body."""
    return {"required": True, "content": json_content(schema, example)}


_TEXT = {"type": "string"}
_PREDICTION = {
    "type": "object",
    "required": ["request_id", "model", "model_version", "prediction"],
    "properties": {
        "request_id": _TEXT,
        "model": _TEXT,
        "model_version": _TEXT,
        "prediction": {"type": "object", "description": "As the model's schema says."},
    },
}
_FAILED_ROW = {
    "type": "object",
    "required": ["request_id", "model", "problem"],
    "properties": {"request_id": _TEXT, "model": _TEXT, "problem": reference("schemas", "Problem")},
}
SCHEMAS: dict[str, Any] = {
    "Problem": {
        "type": "object",
        "description": "RFC 9457. `type` is stable, for programs; `detail` is for people, and names the fix.",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "enum": [TYPE + kind for kind in PROBLEMS]},
            "title": _TEXT,
            "status": {"type": "integer"},
            "detail": _TEXT,
            "field": {"type": "string", "description": "The field at fault."},
            "example": {"description": "A valid body."},
            "request_id": _TEXT,
        },
    },
    "Prediction": _PREDICTION,
    "Predictions": {
        "type": "object",
        "required": ["request_id", "predictions"],
        "properties": {
            "request_id": {"type": "string", "description": "Of the batch."},
            "predictions": {
                "type": "array",
                "description": "In the order of the rows.",
                "items": {"anyOf": [reference("schemas", "Prediction"), _FAILED_ROW]},
            },
        },
    },
    "PredictionOrMany": {"anyOf": [reference("schemas", "Prediction"), reference("schemas", "Predictions")]},
    "PredictionRequest": {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "features": {"type": "object", "description": "One row, as the model's schema says."},
            "rows": {"type": "array", "minItems": 1, "items": {"type": "object"}, "description": "Many rows."},
        },
        "oneOf": [{"required": ["features"]}, {"required": ["rows"]}],
    },
    "Running": {
        "type": "object",
        "required": ["request_id", "status", "location"],
        "properties": {"request_id": _TEXT, "status": {"const": "running"}, "location": _TEXT},
    },
    "Label": {
        "type": "object",
        "additionalProperties": False,
        "required": ["label"],
        "properties": {
            "label": {"description": "The true outcome, of the type that the model declares."},
            "observed_at": {"type": "string", "format": "date-time", "description": "Now by default."},
            "model": {"type": "string", "description": "Needed only if the gateway does not know the request."},
        },
    },
    "LabelAccepted": {
        "type": "object",
        "required": ["request_id", "model", "status"],
        "properties": {"request_id": _TEXT, "model": _TEXT, "status": {"const": "accepted"}},
    },
    "Model": {
        "type": "object",
        "required": ["name", "version", "features_schema", "prediction_schema", "example"],
        "properties": {
            "name": _TEXT,
            "version": _TEXT,
            "created_at": {"type": "string", "format": "date-time"},
            "metrics": {"type": "object", "additionalProperties": {"type": "number"}},
            "primary_metric": _TEXT,
            "path": {"type": "string", "description": "The route with the model's own fields."},
            "features_schema": {"type": "object"},
            "prediction_schema": {"type": "object"},
            "example": {"description": "A valid row."},
            "similar": {
                "description": "Its route for similar training rows, what they have in common, and what is nearest.",
                "type": ["object", "null"],
                "properties": {
                    "path": _TEXT,
                    "by": {"type": "array", "items": _TEXT},
                    "nearest": _TEXT,
                    "rows": {"type": "integer"},
                },
            },
        },
    },
    "ModelList": {
        "type": "object",
        "required": ["models"],
        "properties": {"models": {"type": "array", "items": reference("schemas", "Model")}},
    },
}
PARAMETERS: dict[str, Any] = {
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Becomes the id of the request, so it must be unique: use a UUID, and the same one to retry.",
        "schema": {"type": "string", "pattern": f"^{IDEMPOTENCY_KEY}$"},
    },
    "RecordKey": {
        "name": "X-Record-Key",
        "in": "header",
        "description": "Key of the record, such as a customer: requests with one key are predicted in order.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[!-~]+$"},
    },
    "Wait": {
        "name": "Prefer",
        "in": "header",
        "description": "`wait=10` waits at most ten seconds; `respond-async` does not wait (RFC 7240).",
        "schema": {"type": "string", "examples": ["wait=10", "respond-async"]},
    },
    "RequestId": {
        "name": "request_id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "minLength": 1, "maxLength": 256},
    },
}
RESPONSES: dict[str, Any] = {
    "Problem": {
        "description": "A problem.",
        "content": {CONTENT_TYPE: {"schema": reference("schemas", "Problem")}},
    },
    "Running": {
        "description": "The request is accepted; its result will be at `Location`.",
        "headers": {"Location": {"schema": {"type": "string"}}, "Retry-After": {"schema": {"type": "integer"}}},
        "content": json_content(reference("schemas", "Running")),
    },
}
ERROR_RESPONSES = {
    code: reference("responses", "Problem")
    for code in map(str, (400, 401, 403, 404, 408, 409, 410, 413, 415, 422, 429, 431, 500, 503, 504))
}

"""The paths of the Open Inference Protocol in the OpenAPI document."""

from typing import Any

import msgspec

from producers.gateway.openapi_parts import json_content, reference

_TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {"type": "string", "examples": ["FP64", "INT64", "BOOL", "BYTES"]},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "data": {"description": "Values in row-major order, nested or flat.", "type": "array"},
        "parameters": {"type": "object"},
    },
}
SCHEMAS: dict[str, Any] = {
    "InferenceError": {
        "description": "The message as `error`, and the members of a problem.",
        "allOf": [
            reference("schemas", "Problem"),
            {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
        ],
    },
    "Tensor": _TENSOR,
    "InferRequest": {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string", "description": "As the header `Idempotency-Key`."},
            "inputs": {"type": "array", "minItems": 1, "items": reference("schemas", "Tensor")},
            "outputs": {"type": "array", "items": {"type": "object", "required": ["name"]}},
            "parameters": {
                "type": "object",
                "properties": {"timeout": {"type": "number", "minimum": 0, "description": "Microseconds."}},
            },
        },
    },
    "InferResponse": {
        "type": "object",
        "required": ["model_name", "model_version", "id", "outputs"],
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "outputs": {"type": "array", "items": reference("schemas", "Tensor")},
        },
    },
    "ModelMetadata": {
        "type": "object",
        "required": ["name", "versions", "platform", "inputs", "outputs"],
        "properties": {
            "name": {"type": "string"},
            "versions": {"type": "array", "items": {"type": "string"}},
            "platform": {"type": "string"},
            "inputs": {"type": "array", "items": reference("schemas", "Tensor")},
            "outputs": {"type": "array", "items": reference("schemas", "Tensor")},
        },
    },
}
_FLAG = {"type": "object", "properties": {"ready": {"type": "boolean"}}}
_SERVER = {
    "type": "object",
    "required": ["name", "version", "extensions"],
    "properties": {"name": {"type": "string"}, "extensions": {"type": "array", "items": {"type": "string"}}},
}
_VERSION = {
    "name": "version",
    "in": "path",
    "required": True,
    "description": "The version in service; another one is 404.",
    "schema": {"type": "string", "examples": ["v1"]},
}


def paths(model: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """The paths.

    Args:
        model: the parameter of the path.
        row: a valid one, of the first of its models.
    """
    found: dict[str, Any] = {"/v2": {"get": _get("server_metadata", "Show the server's metadata", _SERVER, [])}}
    for prefix, suffix, parameters in (
        ("/v2/models/{model}", "", [model]),
        ("/v2/models/{model}/versions/{version}", "_version", [model, _VERSION]),
    ):
        metadata = reference("schemas", "ModelMetadata")
        found |= {
            prefix: {"get": _get(f"model_metadata{suffix}", "Show the tensors of a model", metadata, parameters)},
            f"{prefix}/ready": {
                "get": _get(f"model_ready{suffix}", "Tell whether a model takes requests", _FLAG, parameters, "503")
            },
            f"{prefix}/infer": {"post": _infer(f"infer{suffix}", parameters, row)},
        }
    return found


def _get(
    name: str, summary: str, schema: dict[str, Any], parameters: list[dict[str, Any]], more: str = ""
) -> dict[str, Any]:
    return {
        "operationId": name,
        "tags": ["open inference"],
        "summary": summary,
        "parameters": parameters,
        "responses": {"200": {"description": "It is.", "content": json_content(schema)}}
        | _errors(f"400 401 403 {'404' if parameters else ''} {more}"),
    }


def _infer(name: str, parameters: list[dict[str, Any]], row: dict[str, Any]) -> dict[str, Any]:
    text = msgspec.json.encode(row).decode()
    example = {"inputs": [{"name": "features", "datatype": "BYTES", "shape": [1], "data": [text]}]}
    length = {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "description": "Length of the JSON part, if the values of binary tensors follow.",
        "schema": {"type": "integer", "minimum": 0},
    }
    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {
        "operationId": name,
        "tags": ["open inference"],
        "summary": "Predict rows that are given as tensors",
        "description": "A tensor for each feature, of the shape [n] or [n, 1], or one named `features`, of BYTES, whose"
        " values are JSON objects. If a row fails, the request does.",
        "parameters": [*parameters, length, reference("parameters", "Wait")],
        "requestBody": {
            "required": True,
            "content": json_content(reference("schemas", "InferRequest"), example) | binary,
        },
        "responses": {
            "200": {
                "description": "A tensor for each field of the prediction, and one of JSON.",
                "content": json_content(reference("schemas", "InferResponse")) | binary,
            },
            **_errors("400 401 403 404 408 409 410 413 415 422 429 500 503 504"),
        },
    }


def _errors(codes: str) -> dict[str, Any]:
    content = json_content(reference("schemas", "InferenceError"))
    return {code: {"description": "A problem.", "content": content} for code in codes.split()}

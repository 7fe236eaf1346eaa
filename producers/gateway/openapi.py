"""The OpenAPI 3.1 document, generated from the schemas that the registry keeps with each champion."""

from collections.abc import Mapping
from typing import Any

from machine_learning_engineering.core.version import __version__
from producers.gateway import openapi_console, openapi_inference, openapi_streams, similar
from producers.gateway.catalog import ServedModel
from producers.gateway.openapi_parts import (
    ERROR_RESPONSES,
    PARAMETERS,
    RESPONSES,
    SCHEMAS,
    body,
    json_content,
    reference,
)

DESCRIPTION = (
    "Predictions over HTTP, on the same stream as Kafka's. Every request is logged and has exactly one outcome. "
    "Retry with the same `Idempotency-Key`: the same body gets the same answer."
)


def document(models: Mapping[str, ServedModel]) -> dict[str, Any]:
    """The document for the models in service."""
    schemas: dict[str, Any] = SCHEMAS | openapi_inference.SCHEMAS
    paths: dict[str, Any] = {}
    for model in models.values():
        features = _add(schemas, model.name, "Features", model.features_schema)
        prediction = _add(schemas, model.name, "Prediction", model.prediction_schema)
        if model.path:
            paths[model.path] = {"post": _friendly(model, features, prediction)}
        if model.similar_path:
            paths.setdefault(model.similar_path, {})["get"] = similar.operation(model)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Inflight",
            "version": __version__,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [
            {"name": "models", "description": "One route for each model, with its own fields."},
            {"name": "predictions", "description": "The same for any model, for one row or many, and for later."},
            {"name": "streams", "description": "What comes out of the stream, as it comes."},
            {"name": "open inference", "description": "The Open Inference Protocol, version 2."},
            {"name": "health"},
            {"name": "console", "description": "What the console's page asks; it may change with the page."},
        ],
        "security": [{"bearer": []}, {"header": []}],
        "paths": paths | _common(models),
        "components": {
            "schemas": schemas,
            "parameters": PARAMETERS,
            "responses": RESPONSES,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `inflight keys add`."},
                "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _friendly(model: ServedModel, features: dict[str, Any], prediction: dict[str, Any]) -> dict[str, Any]:
    added = {"request_id": {"type": "string"}, "model_version": {"type": "string"}}
    description = model.features_schema.get("description") or _definition(model.features_schema).get("description", "")
    return {
        "operationId": f"{model.name}_{model.prediction_name}".replace("-", "_"),
        "tags": ["models"],
        "summary": f"Predict the {model.prediction_name} for one row of {model.name}",
        "description": f"{description}\n\nServed by version `{model.version}`.",
        "x-model-version": model.version,
        "parameters": [reference("parameters", "IdempotencyKey"), reference("parameters", "Wait")],
        "requestBody": body(features, model.example),
        "responses": {
            "200": {
                "description": "The prediction, with the id of its request.",
                "headers": {"X-Model-Version": {"schema": {"type": "string"}}},
                "content": json_content({"allOf": [prediction, {"type": "object", "properties": added}]}),
            },
            "202": reference("responses", "Running"),
            **ERROR_RESPONSES,
        },
    }


def _common(models: Mapping[str, ServedModel]) -> dict[str, Any]:
    names = list(models)
    # Of the first model, which is also the first of its enumeration: whoever tries the route gets a prediction.
    row = models[names[0]].example if names else {}
    one_id = reference("parameters", "RequestId")
    model = {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "examples": names}}
    if names:
        model["schema"] = {"type": "string", "enum": names}
    return {
        "/v1/models": {
            "get": {
                "operationId": "list_models",
                "tags": ["predictions"],
                "summary": "List the models in service",
                "responses": {"200": _ok("The models.", reference("schemas", "ModelList")), **_errors("400 401 403")},
            }
        },
        "/v1/models/{model}": {
            "get": {
                "operationId": "show_model",
                "tags": ["predictions"],
                "summary": "Show the schema, version, metrics and an example of a model",
                "parameters": [model],
                "responses": {
                    "200": _ok("The model.", reference("schemas", "Model")),
                    **_errors("400 401 403 404"),
                },
            }
        },
        "/v1/models/{model}/predictions": {
            "post": {
                "operationId": "predict",
                "tags": ["predictions"],
                "summary": "Predict one row (`features`) or many (`rows`)",
                "description": "Waits for the predictions. After the deadline, or at once with `Prefer: respond-async`,"
                " the answer is 202 with the `Location` of the result.",
                "parameters": [
                    model,
                    reference("parameters", "IdempotencyKey"),
                    reference("parameters", "RecordKey"),
                    reference("parameters", "Wait"),
                ],
                "requestBody": _and(
                    body(reference("schemas", "PredictionRequest"), {"features": row}), openapi_streams.UPLOAD
                ),
                "responses": {
                    "200": _and(
                        _ok("The prediction, or those of all rows.", reference("schemas", "PredictionOrMany")),
                        openapi_streams.OUTCOMES,
                    ),
                    "202": reference("responses", "Running"),
                    "207": _ok("Some of the rows failed.", reference("schemas", "Predictions")),
                    **{code: one for code, one in ERROR_RESPONSES.items() if code != "504"},
                },
            }
        },
        "/v1/predictions/{request_id}": {
            "get": {
                "operationId": "show_prediction",
                "tags": ["predictions"],
                "summary": "Get the result of a request, or of a batch by the id that its 202 gave",
                "parameters": [one_id],
                "responses": {
                    "200": _ok("The prediction, or those of all rows.", reference("schemas", "PredictionOrMany")),
                    "202": reference("responses", "Running"),
                    "207": _ok("Some of the rows failed.", reference("schemas", "Predictions")),
                    **_errors("400 401 403 404 410 422 500 503"),
                },
            }
        },
        "/v1/predictions/{request_id}/label": {
            "post": {
                "operationId": "report_label",
                "tags": ["predictions"],
                "summary": "Report the true outcome of a request",
                "parameters": [one_id],
                "requestBody": body(reference("schemas", "Label"), {"label": 326}),
                "responses": {
                    "202": _ok("The label is on the stream.", reference("schemas", "LabelAccepted")),
                    **_errors("400 401 403 404 408 413 415 422 429 503"),
                },
            }
        },
        **openapi_streams.paths(),
        **openapi_inference.paths(model, row),
        **openapi_console.paths(model),
        "/v2/health/live": {"get": _health("live", "Tell whether the process runs")},
        "/v2/health/ready": {"get": _health("ready", "Tell whether the gateway takes requests", "503")},
    }


def _health(name: str, summary: str, errors: str = "") -> dict[str, Any]:
    status = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}
    return {
        "operationId": f"health_{name}",
        "tags": ["health"],
        "summary": summary,
        "security": [],
        "responses": {"200": _ok("It is.", status), **_errors(f"400 403 {errors}")},
    }


def _ok(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": json_content(schema)}


def _and(part: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    """A body or a response that has another media type, too."""
    return part | {"content": part["content"] | content}


def _errors(codes: str) -> dict[str, Any]:
    return {code: reference("responses", "Problem") for code in codes.split()}


def _definition(schema: dict[str, Any]) -> dict[str, Any]:
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    found: dict[str, Any] = schema.get("$defs", {}).get(name, schema)
    return found


def _add(schemas: dict[str, Any], model: str, part: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Add a model's schema to the components, under names of its own; return the reference to it."""
    prefix = f"{model}.{part}"
    own = {name: value for name, value in schema.items() if name != "$defs"}
    for name, definition in schema.get("$defs", {}).items():
        schemas[f"{prefix}.{name}"] = _moved(definition, prefix)
    schemas[prefix] = _moved(own, prefix) or {"type": "object"}
    return reference("schemas", prefix)


def _moved(schema: Any, prefix: str) -> Any:
    """The schema with its references to `$defs` as references to the components."""
    if isinstance(schema, dict):
        return {
            key: f"#/components/schemas/{prefix}.{value.removeprefix('#/$defs/')}"
            if key == "$ref" and isinstance(value, str)
            else _moved(value, prefix)
            for key, value in schema.items()
        }
    return [_moved(one, prefix) for one in schema] if isinstance(schema, list) else schema

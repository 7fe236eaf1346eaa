"""The paths of the console in the OpenAPI document: what its page asks."""

from typing import Any

from producers.gateway.openapi_parts import body, json_content, reference

_TEXT, _FLAG, _COUNT = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
_OBJECTS = {"type": "array", "items": {"type": "object"}}
_TEXTS = {"type": "array", "items": _TEXT}
_ADDRESS = {"type": "string", "maxLength": 32, "pattern": "^[0-9]+:[0-9]+$", "examples": ["0:17"]}
_WATCHED = {"problem": _TEXT, "complete": _FLAG, "since": {"type": ["string", "null"]}, "hidden_topics": _TEXTS}
_SECONDS = {"type": "integer", "enum": [300, 900, 3_600], "default": 300}
_LIMIT = {"type": "integer", "minimum": 0, "maximum": 9_999_999, "default": 100, "description": "Never more than 500."}


def paths(model: dict[str, Any]) -> dict[str, Any]:
    """The paths.

    Args:
        model: the parameter of the path.
    """
    # Of the registry: also models without a champion.
    model = model | {"schema": _TEXT}
    address = {"name": "address", "in": "path", "required": True, "schema": _ADDRESS}
    replayed = {"address": _TEXT, "outcome": _TEXT}
    replay = _object(addresses={"type": "array", "minItems": 1, "maxItems": 50, "items": _ADDRESS}, again=_FLAG)
    replay |= {"required": ["addresses"], "additionalProperties": False}
    return {
        "/v1/console/session": _get(
            "session",
            "Tell what the caller may do",
            _object(keys_required=_FLAG, name={"type": ["string", "null"]}, scopes=_TEXTS),
        ),
        "/v1/console/overview": _get(
            "overview",
            "Show throughput, outcomes, latency, lag and events of models",
            _object(
                **_WATCHED,
                now=_TEXT,
                gateway=_object(ready=_FLAG, problem=_TEXT),
                seconds=_SECONDS,
                series={"type": "object"},
                total={"type": "object"},
                models=_OBJECTS,
                lag=_OBJECTS,
                lag_problem=_TEXT,
                events=_OBJECTS,
            ),
            _query("seconds", _SECONDS),
        ),
        "/v1/console/models": _get("models", "List all models of the registry", _object(models=_OBJECTS)),
        "/v1/console/models/{model}": _get(
            "model",
            "Show versions, drift and live quality of a model",
            _object(
                **_WATCHED,
                name=_TEXT,
                count=_COUNT,
                versions=_OBJECTS,
                history=_OBJECTS,
                drift=_OBJECTS,
                quality=_OBJECTS,
            ),
            model,
            errors="404",
        ),
        "/v1/console/predictions": _get(
            "predictions",
            "List the last predictions",
            _object(**_WATCHED, predictions=_OBJECTS, matching=_COUNT, counted=_COUNT),
            *(_query(name, _TEXT) for name in ("model", "outcome", "id")),
            _query("limit", _LIMIT),
        ),
        "/v1/console/predictions/{request_id}": _get(
            "prediction",
            "Show all that is known of a request",
            _object(request_id=_TEXT, status=_TEXT, model={"type": ["string", "null"]}, dead_letters=_OBJECTS),
            reference("parameters", "RequestId"),
            errors="404 503",
        ),
        "/v1/console/dead-letters": _get(
            "dead_letters",
            "List the last dead letters",
            _object(
                **_WATCHED, dead_letters=_OBJECTS, matching=_COUNT, reasons=_TEXTS, models=_TEXTS, max_replay=_COUNT
            ),
            *(_query(name, _TEXT) for name in ("model", "reason")),
            _query("limit", _LIMIT),
        ),
        "/v1/console/dead-letters/{address}": _get(
            "dead_letter",
            "Show the bytes of a dead letter",
            _object(key={}, value={}, bytes={}, shown_bytes={}, headers={"type": "array"}),
            address,
            errors="404 503",
        ),
        "/v1/console/dead-letters/replay": {
            "post": _operation(
                "replay",
                "Publish dead letters again, unchanged",
                _object(accepted=_COUNT, results={"type": "array", "items": _object(**replayed)}),
                [],
                "408 409 413 415 422 503",
            )
            | {"requestBody": body(replay, {"addresses": ["0:17"]})}
        },
    }


def _object(**fields: Any) -> dict[str, Any]:
    """The schema of an object that has these fields."""
    return {"type": "object", "required": list(fields), "properties": fields}


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema}


def _get(
    name: str, summary: str, schema: dict[str, Any], *parameters: dict[str, Any], errors: str = ""
) -> dict[str, Any]:
    return {"get": _operation(name, summary, schema, list(parameters), errors)}


def _operation(
    name: str, summary: str, schema: dict[str, Any], parameters: list[dict[str, Any]], errors: str
) -> dict[str, Any]:
    return {
        "operationId": f"console_{name}",
        "tags": ["console"],
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": {"description": "It is.", "content": json_content(schema)},
            **dict.fromkeys(["400", "401", "403", *errors.split()], reference("responses", "Problem")),
        },
    }

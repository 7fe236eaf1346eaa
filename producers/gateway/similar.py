"""Similar rows: rows of the champion's training set that are equal in some features and the nearest in one."""

import math
import re
from operator import ge, gt, le, lt
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.datastructures import QueryParams

from machine_learning_engineering.core.similarity import COUNT
from machine_learning_engineering.core.validation import describe, safe_field_path
from machine_learning_engineering.registry.similar import SimilarIndex
from producers.gateway.catalog import ServedModel
from producers.gateway.examples import example, resolve
from producers.gateway.openapi_parts import json_content, reference
from producers.gateway.problems import Problem

DEFAULT_ROWS = 5
MAX_ROWS = 100
Value = str | int | float
_COUNT_SCHEMA = {
    "type": "integer",
    "minimum": 1,
    "maximum": MAX_ROWS,
    "default": DEFAULT_ROWS,
    "description": "Number of rows; there may be fewer.",
}
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"-?([0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?")
_LIMITS = {"minimum": ge, "maximum": le, "exclusiveMinimum": gt, "exclusiveMaximum": lt}


def answer(model: ServedModel, query: QueryParams) -> dict[str, Any]:
    """Answer a request for similar rows.

    Args:
        model: the model.
        query: one value of each feature in the model's declaration, and optionally the number of rows.

    Returns:
        The answer, which msgspec can encode.

    Raises:
        Problem: the model has no index, or a parameter is at fault.
    """
    index = _index(model)
    schemas = _schemas(model, index)
    for name in query:
        if name not in schemas:
            raise _wrong(model, safe_field_path(name), f"is unknown: there are {', '.join(schemas)}")
    given: dict[str, Value] = {COUNT: DEFAULT_ROWS}
    for name, schema in schemas.items():
        texts = query.getlist(name)
        if len(texts) > 1:
            raise _wrong(model, name, "must be given once")
        if not texts and name != COUNT:
            raise _wrong(model, name, f"is missing: it must be {describe(schema)}")
        for text in texts:
            if (value := parse(text, schema)) is None:
                raise _wrong(model, name, f"must be {describe(schema)}")
            given[name] = value
    declared = index.similarity
    key = tuple(value for name in declared.by if isinstance(value := given[name], str | int))
    found = index.search(key, float(given[declared.nearest]), int(given[COUNT]))
    return {"model": model.name, "model_version": model.version, **found._asdict()}


def parse(text: str, schema: dict[str, Any]) -> Value | None:
    """The value of a query parameter; None if its schema does not accept the text.

    Args:
        text: as in the query.
        schema: of a string, an integer, a number or a boolean, or of a choice of them.
    """
    if "anyOf" in schema:
        found = (parse(text, one) for one in schema["anyOf"])
        return next((value for value in found if value is not None), None)
    if "enum" in schema:
        return next((one for one in schema["enum"] if _spelled(one) == text), None)
    kind = schema.get("type")
    if kind == "string":
        return text
    if kind == "boolean":
        return {"true": True, "false": False}.get(text)
    if (_INTEGER if kind == "integer" else _NUMBER).fullmatch(text) is None:
        return None
    value = int(text) if kind == "integer" else float(text)
    accepted = all(check(value, schema[name]) for name, check in _LIMITS.items() if name in schema)
    return value if accepted and math.isfinite(value) else None


def shown(model: ServedModel) -> dict[str, Any] | None:
    """What `GET /v1/models/{model}` shows of the index; None if there is none."""
    index = model.similar
    if index is None:
        return None
    declared = index.similarity
    return {"path": model.similar_path, "by": declared.by, "nearest": declared.nearest, "rows": len(index)}


def operation(model: ServedModel) -> dict[str, Any]:
    """The route of a model with an index in the OpenAPI document."""
    index = _index(model)
    by, nearest = ", ".join(index.similarity.by), index.similarity.nearest
    count = {"type": "integer", "minimum": 0}
    row = {
        "type": "object",
        "required": ["features", "label", "distance"],
        "properties": {
            "features": {"type": "object", "description": "As in a request; those that are redacted are left out."},
            "label": {"description": "The true value."},
            "distance": {"type": "number", "minimum": 0, "description": f"Of `{nearest}`."},
        },
    }
    content = {
        "type": "object",
        "required": ["model", "model_version", "rows", "total", "ties"],
        "properties": {
            "model": {"type": "string"},
            "model_version": {"type": "string"},
            "rows": {"type": "array", "description": "The nearest first.", "items": row},
            "total": count | {"description": f"Rows with the same {by}."},
            "ties": count | {"description": "Further rows that are as near as the last one."},
        },
    }
    return {
        "operationId": f"{model.name}_similar".replace("-", "_"),
        "tags": ["models"],
        "summary": f"Find rows of the training set with the same {by} and the nearest {nearest}",
        "description": f"Among the {len(index):,} rows that version `{model.version}` was fitted on. Equally near rows "
        f"are in the order of their {nearest}, and those with the same {nearest} in the order of the training data.",
        "x-model-version": model.version,
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": name != COUNT,
                "description": schema.get("description", f"The feature `{name}`."),
                "schema": schema,
                "example": _example(model, name, schema),
            }
            for name, schema in _schemas(model, index).items()
        ],
        "responses": {
            "200": {"description": "The rows.", "content": json_content(content)},
            **{code: reference("responses", "Problem") for code in ["400", "401", "403", "404", "422", "503"]},
        },
    }


def _index(model: ServedModel) -> SimilarIndex:
    if model.similar_problem:
        raise Problem("similar-unavailable", model.similar_problem, headers={"retry-after": "60"})
    if model.similar is None:
        raise Problem(
            "no-similar-rows",
            f"version {model.version} of {model.name} was trained without one: its class declared no `similar_by` and "
            f"`nearest`, or the index would have been too large: declare them, and run inflight train {model.name}",
        )
    return model.similar


def _schemas(model: ServedModel, index: SimilarIndex) -> dict[str, dict[str, Any]]:
    """Schema of each query parameter."""
    root = model.features_schema
    fields = resolve(root, root).get("properties", {})
    names = (*index.similarity.by, index.similarity.nearest)
    return {name: _without_null(resolve(fields.get(name, {}), root), root) for name in names} | {COUNT: _COUNT_SCHEMA}


def _without_null(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The schema without null, which a query can't say."""
    schema = {name: value for name, value in schema.items() if name != "default"}
    if "enum" in schema:
        schema["enum"] = [one for one in schema["enum"] if one is not None]
    if "anyOf" in schema:
        schema["anyOf"] = [one for one in (resolve(one, root) for one in schema["anyOf"]) if one.get("type") != "null"]
    return schema


def _example(model: ServedModel, name: str, schema: dict[str, Any]) -> Any:
    return example(schema) if name == COUNT else model.example.get(name, example(schema))


def _spelled(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _wrong(model: ServedModel, name: str, complaint: str) -> Problem:
    index = _index(model)
    parameters = {one: _spelled(_example(model, one, schema)) for one, schema in _schemas(model, index).items()}
    return Problem(
        "invalid-request",
        f"parameter `{name}` {complaint}",
        field=name,
        example=f"{model.similar_path}?{urlencode(parameters)}",
    )

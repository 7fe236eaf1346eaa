"""The path of live streams in the OpenAPI document, and what bulk uploads add to that of predictions."""

from typing import Any

from producers.gateway.openapi_parts import reference

NDJSON = "application/x-ndjson"
UPLOAD = {NDJSON: {"schema": {"type": "string", "description": "An object of features a line."}}}
"""Beside `application/json` in the body of predictions."""
OUTCOMES = {
    NDJSON: {
        "schema": {
            "type": "string",
            "description": "An outcome a line, with its number; the last line counts them.",
        }
    }
}
"""Beside `application/json` in the response."""
_NAMES = "results|measurements|events|all"
_EVENT = {
    "type": "object",
    "description": "Of each event; between them come comments.",
    "required": ["event", "data", "id"],
    "properties": {
        "event": {"type": "string", "enum": ["result", "measurement", "model_event", "gap"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
        "id": {"type": "string", "description": "The positions behind it; resume there with `Last-Event-ID`."},
    },
}


def paths() -> dict[str, Any]:
    """The path."""
    names = {
        "name": "streams",
        "in": "path",
        "required": True,
        "description": "One of them, or several, joined with commas.",
        "schema": {"type": "string", "pattern": f"^({_NAMES})(,({_NAMES}))*$", "examples": ["all", "results,events"]},
    }
    models = {
        "name": "model",
        "in": "query",
        "description": "Only of this model; several are joined with commas.",
        "schema": {"type": "string"},
    }
    last = {
        "in": "header",
        "name": "Last-Event-ID",
        "description": "Go on behind this event; browsers send it by themselves. Also as `last_event_id`.",
        "schema": {"type": "string", "examples": ["r0:17,r1:4"]},
    }
    problem = reference("responses", "Problem")
    return {
        "/v1/streams/{streams}": {
            "get": {
                "operationId": "stream_events",
                "tags": ["streams"],
                "summary": "Follow results, measurements and model events as server-sent events",
                "description": "Events are named `result`, `measurement` and `model_event`; `gap` tells what is left"
                " out. The stream does not end by itself.",
                "parameters": [names, models, last],
                "responses": {
                    "200": {
                        "description": "Events.",
                        "content": {"text/event-stream": {"schema": _EVENT}},
                    },
                    **dict.fromkeys(("400", "401", "403", "404", "429", "503"), problem),
                },
            }
        }
    }

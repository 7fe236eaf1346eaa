"""JSON Schema and AsyncAPI documents, generated from the event structs."""

import json
from pathlib import Path
from typing import Any

import msgspec

from machine_learning_engineering.core.version import __version__
from machine_learning_engineering.events.headers import FINGERPRINT
from machine_learning_engineering.events.schemas import (
    ApiCalled,
    DriftDetected,
    DriftMeasured,
    LabelReported,
    ModelPromoted,
    PredictionCompleted,
    PredictionFailed,
    PredictionLogged,
    PredictionRequested,
    PredictionShadowed,
    QualityMeasured,
    RolloutChanged,
)
from machine_learning_engineering.events.topics import (
    API_CALLS,
    DEAD_LETTERS,
    LABELS,
    LOGS,
    MEASUREMENTS,
    MODEL_EVENTS,
    REQUESTS,
    RESULTS,
    SHADOWS,
)

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_REF = "#/$defs/{name}"
_TEXT = {"type": "string"}
_NUMBER = {"type": "string", "pattern": "^[0-9]+$"}

_TRACE_HEADERS = {
    "traceparent": {
        **_TEXT,
        "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}",
        "description": "W3C trace context; copied to every record that is written for the request.",
    },
    "tracestate": {**_TEXT, "description": "W3C trace context; copied."},
}
_GATEWAY_HEADERS = {
    FINGERPRINT: {
        **_TEXT,
        "pattern": "^[0-9a-f]{32}(-[0-9]+)?$",
        "description": "Set by the gateway: fingerprint of the body that was sent to it, and the number of rows of a "
        "batch; copied.",
    },
}
_CLOUDEVENTS_HEADERS = {
    "ce_specversion": {
        **_TEXT,
        "const": "1.0",
        "description": "A record with this header is a CloudEvent in binary mode.",
    },
    "ce_id": {**_TEXT, "minLength": 1, "description": "Unique together with `ce_source`."},
    "ce_source": {**_TEXT, "format": "uri-reference", "minLength": 1, "description": "Source of the event; copied."},
    "ce_type": {**_TEXT, "minLength": 1, "description": "The type of the event, such as prediction.requested.v1."},
    "ce_time": {**_TEXT, "format": "date-time"},
    "ce_subject": {**_TEXT, "minLength": 1, "description": "Copied, as is every extension attribute."},
}
_ORIGIN_HEADERS = {
    "dlq_reason": {**_TEXT, "description": "Stable, for programs."},
    "dlq_message": {**_TEXT, "description": "For humans; names the field and the fix."},
    "dlq_stage": {**_TEXT, "description": "Stage that rejected the record: decode, index, ..."},
    "dlq_topic": {**_TEXT, "description": "Topic of the record."},
    "dlq_partition": {**_NUMBER, "description": "Partition of the record."},
    "dlq_offset": {**_NUMBER, "description": "Offset of the record."},
    "dlq_model": {**_TEXT, "description": "The model, if it could be read."},
    "dlq_request_id": {**_TEXT, "description": "The request id, if it could be read."},
    "dlq_truncated": {**_NUMBER, "description": "Size of the record in bytes, if this is only a part of it."},
}
_CHANNELS: dict[str, tuple[str, str, tuple[type[msgspec.Struct], ...]]] = {
    # topic: (description, action of Inflight, events)
    REQUESTS: ("Prediction requests, from any producer.", "receive", (PredictionRequested,)),
    RESULTS: (
        "The outcome of each request, with its key, in its partition.",
        "send",
        (PredictionCompleted, PredictionFailed),
    ),
    LOGS: (
        "A flat record of each request and its outcome, with its key, in its partition.",
        "send",
        (PredictionLogged,),
    ),
    SHADOWS: (
        "What the other version of an open rollout answers to a request; given to no consumer of results.",
        "send",
        (PredictionShadowed,),
    ),
    DEAD_LETTERS: ("Records that could not be processed; bytes, key and headers are unchanged.", "send", ()),
    MODEL_EVENTS: (
        "Events of models; compacted by type and model.",
        "send",
        (ModelPromoted, DriftDetected, RolloutChanged),
    ),
    LABELS: ("Labels of requests, from any producer, in any order and at any time.", "receive", (LabelReported,)),
    MEASUREMENTS: ("Measurements of windows of live requests.", "send", (DriftMeasured, QualityMeasured)),
    API_CALLS: ("A record of each call of the gateway and its answer.", "send", (ApiCalled,)),
}
EVENTS = tuple(event for _, _, events in _CHANNELS.values() for event in events)

_OUTCOME_KEY = {"description": "That of the request, byte for byte; the partition is that of the request, too."}
_KEYS: dict[type[msgspec.Struct], dict[str, str]] = {
    PredictionRequested: {
        "description": "The producer's own: any bytes, such as a customer or device, or none. It decides the partition "
        "and thereby the order. The request id is in the value."
    },
    PredictionCompleted: _OUTCOME_KEY,
    PredictionFailed: _OUTCOME_KEY,
    PredictionLogged: _OUTCOME_KEY,
    PredictionShadowed: _OUTCOME_KEY,
    LabelReported: {"description": "Any bytes, or none; the request id is the natural choice."},
    ModelPromoted: {**_TEXT, "description": "Its type, a slash, and the model."},
    DriftDetected: {**_TEXT, "description": "Its type, a slash, and the model."},
    RolloutChanged: {**_TEXT, "description": "Its type, a slash, and the model."},
    DriftMeasured: {**_TEXT, "description": "The model."},
    QualityMeasured: {**_TEXT, "description": "The model."},
    ApiCalled: {**_TEXT, "description": "The request id, or the id of the call if it has none."},
}


def tag(event: type[msgspec.Struct]) -> str:
    """Return the versioned type of an event, such as ``prediction.requested.v1``."""
    return str(event.__struct_config__.tag)


def json_schema(event: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the self-contained JSON Schema of an event."""
    definitions = _components(event, _REF)
    own = definitions.pop(event.__name__)
    document = {"$schema": _DRAFT, "title": tag(event), **{key: value for key, value in own.items() if key != "title"}}
    if definitions:
        document["$defs"] = definitions
    return document


def asyncapi() -> dict[str, Any]:
    """Return the AsyncAPI 3 document: topics, events and headers, from the point of view of Inflight."""
    schemas: dict[str, Any] = {}
    for event in EVENTS:
        schemas.update(_components(event, "#/components/schemas/{name}"))
    schemas["EventHeaders"] = _headers({**_TRACE_HEADERS, **_GATEWAY_HEADERS, **_CLOUDEVENTS_HEADERS})
    schemas["DeadLetterHeaders"] = _headers(
        {**_TRACE_HEADERS, **_GATEWAY_HEADERS, **_CLOUDEVENTS_HEADERS, **_ORIGIN_HEADERS},
        required=[name for name in _ORIGIN_HEADERS if name not in ("dlq_model", "dlq_request_id", "dlq_truncated")],
    )
    messages: dict[str, Any] = {
        event.__name__: {
            "name": tag(event),
            "summary": _summary(event),
            "contentType": "application/json",
            "headers": {"$ref": "#/components/schemas/EventHeaders"},
            "payload": {"$ref": f"#/components/schemas/{event.__name__}"},
            "bindings": {"kafka": {"key": _KEYS[event]}},
        }
        for event in EVENTS
    }
    messages["DeadLetter"] = {
        "name": "dead_letter",
        "summary": "The original record, with reason and origin in its headers.",
        "contentType": "application/octet-stream",
        "headers": {"$ref": "#/components/schemas/DeadLetterHeaders"},
        "payload": {"description": "The original bytes, which may be anything."},
        "bindings": {"kafka": {"key": {"description": "The original key: any bytes, or none."}}},
    }
    channels, operations = {}, {}
    for topic, (description, action, events) in _CHANNELS.items():
        names = [event.__name__ for event in events] or ["DeadLetter"]
        channels[topic] = {
            "address": topic,
            "description": description,
            "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        }
        operations[f"{action}-{topic}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{topic}"},
            "messages": [{"$ref": f"#/channels/{topic}/messages/{name}"} for name in names],
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Inflight",
            "version": __version__,
            "description": "Streaming inference: prediction requests in, results, logs and dead letters out.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": operations,
        "components": {"schemas": schemas, "messages": messages},
    }


def documents() -> dict[str, str]:
    """Return the content of every generated file by name."""
    found = {f"{tag(event)}.json": json_schema(event) for event in EVENTS}
    found["asyncapi.json"] = asyncapi()
    return {name: json.dumps(document, indent=2) + "\n" for name, document in found.items()}


def write(directory: Path) -> list[Path]:
    """Write all documents to `directory`; return the paths."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in documents().items():
        path = directory / name
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def stale(directory: Path) -> list[str]:
    """Return the names of files in `directory` that are missing, outdated or unexpected."""
    wanted = documents()
    differing = [
        name
        for name, text in wanted.items()
        if not (path := directory / name).is_file() or path.read_text(encoding="utf-8") != text
    ]
    return sorted(differing + [path.name for path in directory.glob("*.json") if path.name not in wanted])


def _components(event: type[msgspec.Struct], ref: str) -> dict[str, Any]:
    """Return the schemas of `event` and of the structs in it, by name."""
    _, definitions = msgspec.json.schema_components([event], ref_template=ref)
    for definition in definitions.values():
        if "description" in definition:
            definition["description"] = " ".join(definition["description"].split())
    own = definitions[event.__name__]
    if event in (PredictionRequested, LabelReported):
        # Beyond what the struct expresses: its decoder accepts an event without its type.
        own["required"] = [name for name in own["required"] if name != "type"]
    if event is PredictionRequested:
        own["properties"]["features"] = {"type": "object", "description": "According to the schema of the model."}
    return definitions


def _headers(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    return {"type": "object", **({"required": required} if required else {}), "properties": properties}


def _summary(event: type[msgspec.Struct]) -> str:
    return (event.__doc__ or "").strip().splitlines()[0]

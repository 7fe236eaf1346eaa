"""The page of events: the fields of each, from its JSON Schema, by topic."""

from collections.abc import Iterator
from typing import Any

import msgspec

from inflight.reference import markdown
from inflight.reference.markdown import code, prose, table
from machine_learning_engineering.events.json_schema import EVENTS, asyncapi, json_schema, tag
from machine_learning_engineering.events.topics import TOPICS

_INTRO = (
    "Every record of these topics is JSON with a `type`. A published type gets optional fields only; any other "
    "change is a new type. Readers ignore fields that they do not know. Each heading leads to a JSON Schema in "
    "`docs/schemas`, and [asyncapi.json](../schemas/asyncapi.json) has all of them with topics, keys and headers. "
    "[The wire format](../wire-format.md) explains how to send requests and read results; [topics](../topics.md) "
    "says how topics are made."
)


def page() -> str:
    """The page."""
    return markdown.page("Events", _INTRO, _parts())


def _parts() -> Iterator[str]:
    document = asyncapi()
    channels, messages = document["channels"], document["components"]["messages"]
    by_type = {tag(event): event for event in EVENTS}
    for topic in TOPICS:
        if topic.internal or topic.name not in channels:
            continue
        yield f"## {topic.name}\n\n{channels[topic.name]['description']}"
        for name in channels[topic.name]["messages"]:
            message = messages[name]
            if message["name"] in by_type:
                yield from _event(by_type[message["name"]], message["bindings"]["kafka"]["key"]["description"])
            else:
                yield _headers(document["components"]["schemas"]["DeadLetterHeaders"])


def _event(event: type[msgspec.Struct], key: str) -> Iterator[str]:
    schema = json_schema(event)
    yield f"### {schema['title']}\n\n{prose(schema['description'])}\n\nKey: {prose(key)}"
    yield table(("field", "type", "required", "meaning"), _fields(schema, schema.get("$defs", {})))
    yield f"Schema: [{schema['title']}.json](../schemas/{schema['title']}.json)"


def _headers(schema: dict[str, Any]) -> str:
    """The record itself is what was rejected, so its headers are what there is to describe."""
    return table(("header", "type", "required", "meaning"), _fields(schema, {}))


def _fields(schema: dict[str, Any], definitions: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, ...]]:
    for name, one in schema.get("properties", {}).items():
        required = "yes" if name in schema.get("required", ()) else ""
        inner, many = _struct(one, definitions)
        path = f"{prefix}{name}"
        yield (
            code(path),
            _type(one, definitions),
            required,
            prose(one.get("description") or inner.get("description", "")),
        )
        if inner.get("properties"):
            yield from _fields(inner, definitions, f"{path}{'[]' if many else ''}.")


def _struct(schema: dict[str, Any], definitions: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The struct that a field holds, and whether it holds many."""
    for one in (schema, *schema.get("anyOf", ())):
        many = one.get("type") == "array"
        ref = (one.get("items", {}) if many else one).get("$ref")
        if ref:
            return definitions[ref.rpartition("/")[2]], many
    return {}, False


def _type(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in schema:
        return _type(definitions[schema["$ref"].rpartition("/")[2]], {})
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(one, definitions) for one in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return ", ".join(code(str(one)) for one in schema.get("enum", [schema.get("const")]))
    kind = str(schema.get("type", "any JSON"))
    if kind == "array":
        return f"array of {_type(schema.get('items', {}), definitions)}"
    limits = [f"at most {schema['maxLength']:,}"] if "maxLength" in schema else []
    return ", ".join([schema["format"] if schema.get("format") == "date-time" else kind, *limits])

"""Valid example rows, made from a model's JSON Schema alone."""

from typing import Any

_MAX_DEPTH = 20


def example(schema: dict[str, Any], root: dict[str, Any] | None = None, depth: int = 0) -> Any:
    """An example of a schema: the first one that its author gives, else the least value that it accepts.

    Of an object, the required fields and those with examples.

    Args:
        schema: as msgspec writes them.
        root: the document with the definitions; `schema` by default.
        depth: of the value in the example.
    """
    root = schema if root is None else root
    schema = resolve(schema, root)
    if schema.get("examples"):
        return schema["examples"][0]
    for choice in ("const", "default"):
        if schema.get(choice) is not None:
            return schema[choice]
    if schema.get("enum"):
        return next((one for one in schema["enum"] if one is not None), None)
    if depth > _MAX_DEPTH:
        return None
    if alternatives := schema.get("anyOf") or schema.get("oneOf"):
        best = next((one for one in alternatives if resolve(one, root).get("type") != "null"), alternatives[0])
        return example(best, root, depth + 1)
    return _of_type(schema, root, depth)


def has_example(schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Whether the author gives an example of this field."""
    schema = resolve(schema, root)
    return bool(schema.get("examples")) or any(resolve(one, root).get("examples") for one in schema.get("anyOf", ()))


def resolve(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The schema that a reference within the document refers to."""
    for _ in range(_MAX_DEPTH):
        reference = schema.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/$defs/"):
            break
        schema = root.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {})
    return schema


def _of_type(schema: dict[str, Any], root: dict[str, Any], depth: int) -> Any:
    kinds = schema.get("type")
    kind = next((one for one in kinds if one != "null"), None) if isinstance(kinds, list) else kinds
    if kind == "object":
        required = set(schema.get("required", ()))
        fields = schema.get("properties", {})
        return {
            name: example(field, root, depth + 1)
            for name, field in fields.items()
            if name in required or has_example(field, root)
        }
    if kind == "array":
        first = [example(one, root, depth + 1) for one in schema.get("prefixItems", ())]
        items = schema.get("items")
        more = max(0, schema.get("minItems", 0) - len(first)) if isinstance(items, dict) else 0
        return first + [example(items, root, depth + 1)] * more if isinstance(items, dict) else first
    if kind in ("number", "integer"):
        return _number(schema, kind)
    if kind == "string":
        return "a" * max(1, schema.get("minLength", 1))
    return {"boolean": False}.get(kind or "")


def _number(schema: dict[str, Any], kind: str) -> Any:
    if "minimum" in schema:
        return schema["minimum"]
    if "exclusiveMinimum" not in schema:
        least = schema.get("maximum", schema.get("exclusiveMaximum", 1) - 1)
        return min(0, least)
    above, below = schema["exclusiveMinimum"], schema.get("maximum", schema.get("exclusiveMaximum"))
    return above + 1 if below is None or kind == "integer" else (above + below) / 2

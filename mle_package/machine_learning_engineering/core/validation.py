"""Validation messages: why features were rejected, for the client that sent them.

The messages go into results, logs and dead letters. They name fields and never quote a value.
"""

import json
import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from machine_learning_engineering.core.error_text import describe_origin


class InvalidFeatures(ValueError):
    """The features of a request do not fit the model's schema. The message names the field and what it accepts.

    The message is sent to the client and logged: it must not quote a value. Raise it in the `__post_init__` of a
    `Features` struct to give a message of your own; of other exceptions, only type and origin are reported.
    """


class DecoderMessage(NamedTuple):
    """Parts of a message of msgspec's decoder, such as "Expected `int`, got `str` - at `$.sizes[0]`"."""

    problem: str
    """Without the path."""
    path: str
    """``sizes[0]``; empty for the whole value."""
    missing: str | None
    """Name of a required field that is missing."""
    unknown: str | None
    """Name of a field that is not in the schema."""


_UNKNOWN, _MISSING = "Object contains unknown field `", "Object missing required field `"
_AT = " - at `$"
_MAX_MESSAGE = 2_000


def parse_decoder_message(error: Exception) -> DecoderMessage:
    """Split the message of msgspec's decoder into its parts, in linear time: it may quote a megabyte of a record."""
    text = _shorten(str(error))
    problem, at, path = text.rpartition(_AT)
    if at and path.endswith("`") and "`" not in path[:-1]:
        path = path[:-1].removeprefix(".")
    else:
        problem, path = text, ""
    if problem.startswith(_MISSING):
        return DecoderMessage(problem, path, problem[len(_MISSING) : -1], None)
    if not problem.startswith(_UNKNOWN):
        return DecoderMessage(problem, path, None, None)
    name = problem[len(_UNKNOWN) : -1]
    if problem.endswith("`") and "`" not in name:
        return DecoderMessage(problem, path, None, name)
    # The name itself holds backticks, so what looks like a path may be part of it.
    return DecoderMessage(text, "", None, text[len(_UNKNOWN) :])


def _shorten(text: str) -> str:
    """Cut a message in its middle: the end names the path."""
    return text if len(text) <= _MAX_MESSAGE else text[: _MAX_MESSAGE // 2] + _REDACTED + text[-_MAX_MESSAGE // 2 :]


_EXPECTED = re.compile(r"Expected `(?P<kind>[^`]*)`(?:, got `(?P<got>[^`]*)`| (?P<bound>.*))", re.DOTALL)

# By the names of the decoder, for received kinds, and of JSON Schema, for accepted ones.
_KINDS = {
    "float": "a decimal number",
    "int": "an integer",
    "str": "a string",
    "bool": "true or false",
    "number": "a number",
    "integer": "an integer",
    "string": "a string",
    "boolean": "true or false",
    "null": "null",
    "array": "an array",
    "object": "an object",
}
_LIMITS = {
    "minimum": "of at least {:g}",
    "exclusiveMinimum": "greater than {:g}",
    "maximum": "at most {:g}",
    "exclusiveMaximum": "less than {:g}",
    "minLength": "of at least {} characters",
    "maxLength": "of at most {} characters",
}
# An identifier that a program would use. Any other name may be a value in the wrong place.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
_STEP = re.compile(r"(?P<name>[^\[\].]*)(?P<index>(\[\d{0,6}\])*)")
_REDACTED, _QUOTE = "…", "'"


def safe_field_path(path: str) -> str:
    """Redact each name in a field path, such as ``sizes[1].name``, that may be a value instead of a field name."""
    steps = [_STEP.fullmatch(step) for step in path.split(".")]
    return ".".join(
        (step["name"] if _NAME.fullmatch(step["name"]) else _REDACTED) + step["index"] if step else _REDACTED
        for step in steps
    )


def redact_decoder_message(error: Exception) -> str:
    """Return the decoder's message without quoted values and without names that may be values."""
    found = parse_decoder_message(error)
    path = found.path and safe_field_path(found.path.replace("[...]", "[]"))
    location = f"{_AT}{'' if path.startswith('[') else '.'}{path}`" if path else ""
    if found.unknown is not None:
        return f"{_UNKNOWN}{safe_field_path(found.unknown)}`{location}"
    problem, quote, value = found.problem.partition("value '")
    return problem + (f"value{value[value.rfind(_QUOTE) + 1 :]}" if quote else "") + location


def rejection_message(error: ValueError) -> str:
    """Explain why a model's `decode` rejected features. Only the message of an `InvalidFeatures` is used as it is."""
    if isinstance(error, InvalidFeatures):
        return str(error)
    if isinstance(error, msgspec.ValidationError) and (path := parse_decoder_message(error).path):
        return f"feature `{safe_field_path(path)}` is rejected by the model's schema"
    return f"features are rejected: {describe_origin(error)}"


def explain(error: Exception, raw: bytes | Raw, features: type[Struct], model: str) -> str:
    """Explain an error that decoding `raw` as `features` raised."""
    if isinstance(error, RecursionError):
        return f"features of `{model}` are nested too deeply: they must be one flat JSON object"
    if isinstance(error, UnicodeDecodeError) or not isinstance(error, msgspec.ValidationError):
        return find_non_json_value(raw) or f"features of `{model}` are not JSON: {error}"
    found = parse_decoder_message(error)
    if found.missing is not None and not found.path:
        return f"feature `{found.missing}` is missing: it must be {_accepts(features, found.missing)}"
    if found.unknown is not None and not found.path:
        known = ", ".join(features.__struct_encode_fields__)
        return f"feature `{safe_field_path(found.unknown)}` is unknown to the model `{model}`, which takes {known}"
    if (cause := error.__cause__) is not None:
        # Raised by the author's own check in the struct.
        if isinstance(cause, InvalidFeatures):
            return str(cause)
        return f"features of `{model}` are rejected: {describe_origin(cause)}"
    if found.path:
        return f"feature `{safe_field_path(found.path)}` {_complaint(found.problem, _accepts(features, found.path))}"
    if expected := _EXPECTED.fullmatch(found.problem):
        return f"features of `{model}` must be a JSON object, not {_KINDS.get(expected['got'], expected['got'])}"
    return f"features of `{model}` do not fit its schema"


def find_non_json_value(raw: bytes | Raw) -> str | None:
    """Describe the first NaN, infinity or invalid UTF-8 in a text that is not valid JSON; None if there is none.

    Slow: for error messages only.
    """
    # Invalid bytes become lone surrogates, which are then found like those from a `\\ud800` escape.
    text = bytes(raw).decode("utf-8", errors="surrogateescape")
    try:
        for path, leaf in _leaves(json.loads(text), ""):
            name = f"feature `{safe_field_path(path)}`" if path else "the value"
            if isinstance(leaf, float) and not math.isfinite(leaf):
                return f"{name} must be a finite number: JSON has no NaN and no infinities"
            if isinstance(leaf, str) and not _is_utf8(leaf):
                return f"{name} is not valid UTF-8"
    except (ValueError, RecursionError):
        return None
    return None


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, child in value.items():
            inner = f"{path}.{name}" if path else name
            if not _is_utf8(name):
                yield inner, name
            yield from _leaves(child, inner)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _leaves(child, f"{path}[{index}]")
    else:
        yield path, value


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _complaint(problem: str, accepted: str) -> str:
    if (found := _EXPECTED.fullmatch(problem)) and found["got"]:
        return f"must be {accepted}, not {_KINDS.get(found['got'], found['got'])}"
    if "out of range" in problem:
        return f"must be {accepted}: the number is too large to be represented"
    return f"must be {accepted}"


def _accepts(features: type[Struct], field: str) -> str:
    """Describe the values that a field accepts: "a number greater than 0 and at most 100", "one of C, Q, S or null"."""
    # The decoder reports a path, such as `sizes[0]`; the field is its first part.
    name = re.split(r"[.\[]", field)[0]
    return describe(_properties(features).get(name, {}))


@lru_cache
def _properties(features: type[Struct]) -> dict[str, Any]:
    """Return the JSON Schema of each field."""
    schema = msgspec.json.schema(features)
    definition = schema.get("$defs", {}).get(features.__name__, schema)
    return dict(definition.get("properties", {}))


def describe(schema: dict[str, Any]) -> str:
    """Describe the values that a JSON Schema accepts: "a number greater than 0 and at most 50", "one of C, Q or S"."""
    if alternatives := schema.get("anyOf"):
        return " or ".join(describe(one) for one in alternatives)
    if choices := schema.get("enum"):
        text = "one of " + ", ".join(str(choice) for choice in choices if choice is not None)
        return text + " or null" if None in choices else text
    limits = [text.format(schema[key]) for key, text in _LIMITS.items() if key in schema]
    return " ".join([_KINDS.get(schema.get("type", ""), "a valid value"), " and ".join(limits)]).strip()

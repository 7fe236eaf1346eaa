"""Why features were refused, in words for the person who sent them.

These words go into results, logs and dead letters, so they name fields and never quote a value.
"""

import json
import math
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec
from msgspec import Raw, Struct

from machine_learning_engineering.core.error_text import describe_origin


class InvalidFeatures(ValueError):
    """The features of a request do not fit the model's schema; the message names the field and says what it takes.

    The sender reads the message, and it is logged: it must not quote a value. Raise it in the `__post_init__` of a
    Struct of features to speak to the sender yourself; of other exceptions there only type and place are told.
    """


_LOCATED = re.compile(r"(?P<what>.*) - at `\$\.(?P<field>[^`]*)`", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<field>.*)`", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>.*)`", re.DOTALL)
_EXPECTED = re.compile(r"Expected `(?P<kind>[^`]*)`(?:, got `(?P<got>[^`]*)`| (?P<bound>.*))", re.DOTALL)

# What was received, by the decoder's name for it.
_GOT = {
    "float": "a decimal number",
    "int": "a whole number",
    "str": "a text",
    "bool": "true or false",
    "null": "null",
    "array": "a list",
    "object": "an object",
}
# What is accepted, by JSON Schema's name for it.
_KINDS = {
    "number": "a number",
    "integer": "a whole number",
    "string": "a text",
    "boolean": "true or false",
    "null": "null",
    "array": "a list",
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
# What a program would call a field. Any other name may be a value in the wrong place.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
_VALUE = re.compile(r"(?<=value) '.*'(?=$| - at `\$)", re.DOTALL)
_NAMED = re.compile(r"unknown field `(.*?)`(?=$| - at `\$)", re.DOTALL)
_STEP = re.compile(r"(?P<name>[^\[\].]*)(?P<index>(\[\d{0,6}\])*)")
_WITHHELD = "…"


def safe_field_path(path: str) -> str:
    """The path of a field, such as ``sizes[1].name``, without the names in it that may be something else."""
    steps = [_STEP.fullmatch(step) for step in path.split(".")]
    return ".".join(
        (step["name"] if _NAME.fullmatch(step["name"]) else _WITHHELD) + step["index"] if step else _WITHHELD
        for step in steps
    )


def redact_decoder_message(error: Exception) -> str:
    """What a decoder says of a record, without the values that it quotes and the names that may be values."""
    text = _VALUE.sub("", str(error))
    return _NAMED.sub(lambda found: f"unknown field `{safe_field_path(found[1])}`", text)


def rejection_message(error: ValueError) -> str:
    """Why a model's `decode` refused features, without a value: what it says itself only if it is `InvalidFeatures`."""
    if isinstance(error, InvalidFeatures):
        return str(error)
    text = str(error)
    if isinstance(error, msgspec.ValidationError) and (found := _LOCATED.fullmatch(text)):
        return f"feature `{safe_field_path(found['field'])}` is refused by the model's schema"
    return f"features are refused: {describe_origin(error)}"


def explain(error: Exception, raw: bytes | Raw, features: type[Struct], model: str) -> str:
    """What is wrong with `raw`, given the error that decoding it as `features` raised."""
    message = str(error)
    if isinstance(error, RecursionError):
        return f"features of `{model}` are nested too deeply: they are one flat JSON object"
    if isinstance(error, UnicodeDecodeError) or not isinstance(error, msgspec.ValidationError):
        return find_non_json_value(raw) or f"features of `{model}` are not JSON: {message}"
    if found := _MISSING.fullmatch(message):
        return f"feature `{found['field']}` is missing: it must be {_accepts(features, found['field'])}"
    if found := _UNKNOWN.fullmatch(message):
        known = ", ".join(features.__struct_encode_fields__)
        return f"feature `{safe_field_path(found['field'])}` is unknown to the model `{model}`, which takes {known}"
    if (own := error.__cause__) is not None:
        # Raised by the author's own check of a Struct.
        return str(own) if isinstance(own, InvalidFeatures) else f"features of `{model}` are refused: {describe_origin(own)}"
    if found := _LOCATED.fullmatch(message):
        field = found["field"]
        return f"feature `{safe_field_path(field)}` {_complaint(found['what'], _accepts(features, field))}"
    if found := _EXPECTED.fullmatch(message):
        return f"features of `{model}` must be a JSON object, not {_GOT.get(found['got'], found['got'])}"
    return f"features of `{model}` do not fit its schema"


def find_non_json_value(raw: bytes | Raw) -> str | None:
    """Where a text that is not valid JSON holds what JSON can't: NaN, infinities, broken UTF-8; None if not found.

    Slow, for the way to an error message only.
    """
    # Broken bytes become lone surrogates, which are then found like those that a `\\ud800` escape makes.
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


def _complaint(what: str, accepted: str) -> str:
    if (found := _EXPECTED.fullmatch(what)) and found["got"]:
        return f"must be {accepted}, not {_GOT.get(found['got'], found['got'])}"
    if "out of range" in what:
        return f"must be {accepted}: the number is too large to be represented"
    return f"must be {accepted}"


def _accepts(features: type[Struct], field: str) -> str:
    """What a field takes, in words: "a number greater than 0 and at most 100", "one of C, Q, S or null"."""
    # The decoder reports a path, such as `sizes[0]`; the field is its first part.
    name = re.split(r"[.\[]", field)[0]
    return _words(_properties(features).get(name, {}))


@lru_cache
def _properties(features: type[Struct]) -> dict[str, Any]:
    """The JSON Schema of each field."""
    schema = msgspec.json.schema(features)
    definition = schema.get("$defs", {}).get(features.__name__, schema)
    return dict(definition.get("properties", {}))


def _words(schema: dict[str, Any]) -> str:
    if alternatives := schema.get("anyOf"):
        return " or ".join(_words(one) for one in alternatives)
    if choices := schema.get("enum"):
        words = "one of " + ", ".join(str(choice) for choice in choices if choice is not None)
        return words + " or null" if None in choices else words
    limits = [text.format(schema[key]) for key, text in _LIMITS.items() if key in schema]
    return " ".join([_KINDS.get(schema.get("type", ""), "a valid value"), " and ".join(limits)]).strip()

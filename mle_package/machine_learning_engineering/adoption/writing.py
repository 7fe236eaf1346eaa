"""Writing a declaration as TOML that people read and edit: a line a feature, with comments, without defaults."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from machine_learning_engineering.declaration.schema import Declaration, FeatureDeclaration

__all__ = ["toml_value", "write_declaration"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")
_COMMENTS: Mapping[str, str] = {
    "model": "What it answers: fields in order, as expressions over the outputs of the pipeline and earlier fields.",
    "source": "The topic whose records are requests.",
    "features": "What the pipeline takes, in its order. Edit types and limits, then: inflight adopt FILE --write",
    "result": "Where results go, and what of the record they repeat.",
}


def write_declaration(
    declaration: Declaration, notes: Mapping[str, str] | None = None, head: Sequence[str] = ()
) -> str:
    """Write a declaration. `declaration.reading.parse_declaration` reads an equal one from it.

    Args:
        declaration: The declaration.
        notes: A comment for features, by name.
        head: Comments at the top, a line each.
    """
    lines = [f"# {_plain(line)}" for line in head]
    if head:
        lines.append("")
    lines += _table("model", declaration.model)
    if declaration.source is not None:
        lines += ["", *_table("source", declaration.source)]
    lines += ["", f"# {_COMMENTS['features']}", "[features]", *_features(declaration.features, notes or {})]
    if msgspec.to_builtins(declaration.result):
        lines += ["", *_table("result", declaration.result)]
    return "\n".join(lines) + "\n"


def _table(name: str, struct: Struct) -> list[str]:
    values = msgspec.to_builtins(struct)
    return [f"# {_COMMENTS[name]}", f"[{name}]", *(f"{key} = {toml_value(value)}" for key, value in values.items())]


def _features(features: Mapping[str, FeatureDeclaration], notes: Mapping[str, str]) -> list[str]:
    keys = {name: _key(name) for name in features}
    width = min(max((len(key) for key in keys.values()), default=0), 30)
    lines = []
    for name, feature in features.items():
        note = f"  # {_plain(notes[name])}" if notes.get(name) else ""
        lines.append(f"{keys[name]:<{width}} = {_feature(feature)}{note}")
    return lines


def _feature(feature: FeatureDeclaration) -> str:
    values = msgspec.to_builtins(feature)
    # Where it is found comes first, because that is what people look for.
    order = ["from", *(name for name in values if name != "from")]
    return _inline({name: _short(name, values[name]) for name in order if name in values})


def _short(name: str, value: Any) -> Any:
    """Limits without a fraction as integers, which read the same."""
    if name == "range":
        return [_short("ge", one) for one in value]
    short = name in ("ge", "gt", "le", "lt") and isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return int(value) if short else value


def _inline(table: Mapping[str, Any]) -> str:
    return (
        "{ " + ", ".join(f"{_key(key)} = {toml_value(value)}" for key, value in table.items()) + " }" if table else "{}"
    )


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else toml_value(name)


def toml_value(value: Any) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for one character, and lone surrogates, which no UTF-8 file holds.
        text = json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        return text.encode(errors="replace").decode()
    if isinstance(value, float):
        return repr(value) if value == value and abs(value) != float("inf") else str(value)
    if isinstance(value, Mapping):
        return _inline(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return str(value)


def _plain(text: str) -> str:
    """A comment is one line without control characters."""
    return _UNPRINTABLE.sub(" ", text).encode(errors="replace").decode()

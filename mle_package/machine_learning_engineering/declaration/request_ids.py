"""Request ids of records of an existing topic: their position, key, a header, or fields of the event."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from machine_learning_engineering.declaration.paths import Path, parse_path
from machine_learning_engineering.declaration.reading import InvalidDeclaration

__all__ = ["NoRequestId", "RequestIds"]

_WHERE = "source.request_id"
_SLOT = re.compile(r"\{(\w*)\}")
_SLOTS = {"topic", "partition", "offset"}
_HEADER = "header:"
MAX_CHARACTERS = 256
_decode = msgspec.json.Decoder().decode


class NoRequestId(ValueError):
    """A record has no usable request id. The message names where it was looked for."""


class RequestIds:
    """Makes the request id of a record, as ``[source] request_id`` says.

    Raises:
        InvalidDeclaration: It is none of the forms, or equal for different records of a topic.
    """

    def __init__(self, declared: str) -> None:
        self._declared = declared
        self.paths: tuple[Path, ...] = ()
        """Fields of the event that the id is made of; none for an id of another kind."""
        self._header = declared.removeprefix(_HEADER) if declared.startswith(_HEADER) else None
        self._template = declared if "{" in declared else None
        if self._header == "":
            raise InvalidDeclaration(f"{_WHERE}: {_HEADER} needs the name of a header")
        if self._template is not None:
            _check_template(self._template)
        elif self._header is None and declared != "key":
            self._names = declared.split("@")
            self.paths = tuple(parse_path(path, _WHERE) for path in self._names)

    def make(
        self,
        values: Sequence[Any],
        key: bytes | None,
        headers: Iterable[tuple[str, bytes | None]],
        topic: str,
        partition: int,
        offset: int,
    ) -> str:
        """Return the id.

        Args:
            values: JSON of the fields `paths`, in order.

        Raises:
            NoRequestId: There is none.
        """
        if self._template is not None:
            return self._template.format(topic=topic, partition=partition, offset=offset)
        if self.paths:
            made = "@".join(map(_text_of_json, values, self._names))
            return made if 1 <= len(made) <= MAX_CHARACTERS else _checked(made, f"`{self._declared}`")
        if self._header is None:
            return _text_of_bytes(key, "the record's key")
        value = next((value for name, value in reversed(list(headers)) if name == self._header), None)
        return _text_of_bytes(value, f"the header `{self._header}`")


def _check_template(template: str) -> None:
    slots = set(_SLOT.findall(template))
    if not slots <= _SLOTS or "{" in _SLOT.sub("", template) or "}" in _SLOT.sub("", template):
        raise InvalidDeclaration(f"{_WHERE}: between braces are topic, partition and offset, and nothing else")
    if not {"partition", "offset"} <= slots:
        raise InvalidDeclaration(
            f"{_WHERE}: {template[:200]!r} is the same for several records: it needs {{partition}} and {{offset}}"
        )


def _text_of_json(value: Any, path: str) -> str:
    if value is UNSET:
        raise NoRequestId(f"request id: the event has no field `{path}`")
    if isinstance(value, Exception):
        raise NoRequestId(f"request id: {value}")
    found = _decode(value)
    if type(found) is str:
        return found
    if isinstance(found, bool) or not isinstance(found, str | int):
        raise NoRequestId(f"request id: field `{path}` must be a string or an integer")
    return str(found)


def _text_of_bytes(value: bytes | None, what: str) -> str:
    if value is None:
        raise NoRequestId(f"request id: {what} is missing or null")
    try:
        return _checked(value.decode(), what)
    except UnicodeDecodeError:
        raise NoRequestId(f"request id: {what} is not UTF-8") from None


def _checked(made: str, what: str) -> str:
    if not 1 <= len(made) <= MAX_CHARACTERS:
        raise NoRequestId(f"request id: {what} has {len(made):,} characters; 1 to {MAX_CHARACTERS} are allowed")
    return made

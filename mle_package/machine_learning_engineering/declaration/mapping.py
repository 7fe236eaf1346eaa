"""From a record of an existing topic to a request: its id, time and features, by the paths of a declaration."""

import math
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from machine_learning_engineering.core.timestamps import MAX_MILLISECONDS, datetime_of_milliseconds
from machine_learning_engineering.core.validation import find_non_json_value
from machine_learning_engineering.declaration.fields import EventFields, NotAnObject
from machine_learning_engineering.declaration.paths import parse_path
from machine_learning_engineering.declaration.reading import InvalidDeclaration
from machine_learning_engineering.declaration.request_ids import NoRequestId, RequestIds
from machine_learning_engineering.declaration.schema import Declaration, FeatureDeclaration

__all__ = ["MappedRecord", "SourceMapping", "UnmappedRecord"]

_NULL = Raw(b"null")
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_decode_time = msgspec.json.Decoder(datetime | int | float).decode
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")
# Of a larger event, the cause of an error is not searched for.
_SEARCHED_BYTES = 64 * 1024
# Smaller numbers are seconds: in milliseconds they would be before March 1973.
_LEAST_MILLISECONDS = 100_000_000_000


class UnmappedRecord(ValueError):
    """A record can't be read as a request. `reason` is stable, for programs; the message names field and fix."""

    def __init__(self, reason: str, message: str, request_id: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.request_id = request_id


class MappedRecord(NamedTuple):
    """A record as a request."""

    request_id: str
    features: Raw
    """A JSON object with the features by name."""
    requested_at: datetime | UnsetType
    """The event's time; unset where the declaration or the event has none."""
    included: bytes
    """A JSON object with the fields that the result repeats, by their paths; empty if there are none."""
    refusal: str = ""
    """Why the features can't be read. Those that were found are in `features` then, as they are in the event."""


class _Feature:
    """How the JSON of a feature comes from that of its field."""

    def __init__(self, name: str, declared: FeatureDeclaration) -> None:
        self.name, self.path = name, declared.from_ or name
        self.key = _encode(name)
        self._declared = declared
        self._fallback: Raw | None = _NULL if declared.missing == "ok" else None
        if not isinstance(declared.default, UnsetType):
            self._fallback = Raw(_scalar(declared.default, f"features.{name}.default"))
        # Their JSON may not be what the model takes: 2.0 is 2, and "12.50" may be 12.50.
        self.is_converted = declared.type == "int" or (declared.numbers_as_text and declared.type == "float")

    def of_missing(self, value: Any) -> Raw | str:
        """The JSON in place of a field that is null or absent, or why that is refused."""
        if isinstance(value, NotAnObject):
            return f"feature `{self.name}`: {value}"
        if self._fallback is not None:
            return self._fallback
        what = "is null" if value == _NULL else "is missing"
        return f"feature `{self.name}` {what}: the event must have a value in `{self.path}`"

    def converted(self, value: Raw) -> Raw | str:
        """The JSON of a number, or why it is none."""
        text = bytes(value)
        if text.isdigit():
            return value
        declared = self._declared
        if declared.numbers_as_text and text[:1] == b'"':
            text = str(_decode(text)).strip().removeprefix("+").encode()
            if not _NUMBER.fullmatch(text.decode()):
                return f"feature `{self.name}`: `{self.path}` must be a number, or the text of one such as 12.50"
        if declared.type == "int" and _NUMBER.fullmatch(text.decode()):
            number = float(text)
            if number.is_integer() and abs(number) <= 2**53 and not text.lstrip(b"-").isdigit():
                return Raw(b"%d" % int(number))
        return Raw(text)


class SourceMapping:
    """Maps records as a declaration says. Pure and fast: one pass over the bytes of an event.

    Args:
        declaration: Has a `source`.

    Raises:
        InvalidDeclaration: A path, the request id or a value of it can't be used. The message names the field.
    """

    def __init__(self, declaration: Declaration) -> None:
        source = declaration.source
        if source is None:
            raise InvalidDeclaration("source: missing; it names the topic that requests come from")
        self.source = source
        self._ids = RequestIds(source.request_id)
        self._features = [
            _Feature(name, declared)
            for name, declared in declaration.features.items()
            if isinstance(declared.constant, UnsetType)
        ]
        self._converted = [number for number, one in enumerate(self._features) if one.is_converted]
        self._template = _template(declaration)
        self._time = source.requested_at
        paths = [parse_path(one.path, f"features.{one.name}.from") for one in self._features]
        paths += self._ids.paths
        if self._time:
            paths.append(parse_path(self._time, "source.requested_at"))
        include = declaration.result.include
        paths += [parse_path(path, "result.include") for path in include]
        self._included = _object(dict.fromkeys(include, b"%b")) if include else b""
        self._extras = len(self._features) + len(self._ids.paths)
        self._refuses_unknown = source.unknown_fields == "refuse"
        self._fields = EventFields(paths, refuse_unknown=self._refuses_unknown)

    def read(
        self,
        value: bytes,
        key: bytes | None = None,
        headers: Iterable[tuple[str, bytes | None]] = (),
        topic: str = "",
        partition: int = 0,
        offset: int = 0,
    ) -> MappedRecord:
        """Map a record.

        Args:
            value: A JSON object.
            key: Of the record, as are the others.

        Raises:
            UnmappedRecord: It is not JSON, or has no request id, or no time where one is declared.
        """
        refusal, is_odd = "", False
        try:
            found = self._fields.read(value)
            # The decoder only skips what stays raw, and that goes into the log as it is.
            if not value.isascii():
                value.decode()
        except (msgspec.ValidationError, AttributeError):
            (found, refusal), is_odd = self._read_slowly(value), True
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _not_json(value, error) from None
        count = len(self._features)
        features = found[:count]
        try:
            request_id = self._ids.make(found[count : self._extras], key, headers, topic, partition, offset)
        except (NoRequestId, ValueError) as error:
            raise UnmappedRecord("invalid_request", str(error)[:2_000]) from None
        rest = found[self._extras :]
        requested_at: datetime | UnsetType = UNSET
        if self._time:
            requested_at = self._time_of(rest[0], request_id)
            rest = rest[1:]
        included = b""
        if self._included:
            if is_odd or UNSET in rest:
                rest = tuple(map(_json_or_null, rest))
            included = self._included % rest
        # Both searches are in C, and most events need no more.
        some_missing = is_odd or UNSET in features or _NULL in features
        if some_missing or self._converted:
            made, problem = self._convert(features, range(count) if some_missing else self._converted)
            if refusal := refusal or problem:
                return MappedRecord(request_id, self._as_found(found), requested_at, included, refusal)
            features = tuple(made)
        return MappedRecord(request_id, Raw(self._template % features), requested_at, included)

    def unknown_fields(self, value: bytes) -> list[str]:
        """Return the fields of an event that the declaration does not name; none if it is not JSON. Slow."""
        try:
            return self._fields.unknown(value)
        except (ValueError, RecursionError):
            return []

    def _read_slowly(self, value: bytes) -> tuple[tuple[Any, ...], str]:
        """The values of the paths of an event that is not as expected, and why it is refused, if it is."""
        try:
            found = self._fields.read_slowly(value)
        except NotAnObject as error:
            raise UnmappedRecord("invalid_request", str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _not_json(value, error) from None
        if not self._refuses_unknown or not (unknown := self._fields.unknown(value)):
            return found, ""
        return found, f"field `{unknown[0]}` is unknown, and source.unknown_fields is refuse"

    def _convert(self, features: Sequence[Any], numbers: Iterable[int]) -> tuple[list[Any], str]:
        """Fill in what is missing, and write numbers as the model takes them; and the first problem."""
        made: list[Any] = list(features)
        problem = ""
        for number in numbers:
            feature, value = self._features[number], features[number]
            if value is UNSET or isinstance(value, NotAnObject) or value == _NULL:
                made[number] = feature.of_missing(value)
            elif feature.is_converted:
                made[number] = feature.converted(value)
            if isinstance(made[number], str):
                problem = problem or made[number]
        return made, problem

    def _as_found(self, found: Sequence[Any]) -> Raw:
        pairs = zip(self._features, found, strict=False)
        return Raw(b"{" + b",".join(one.key + b":" + bytes(raw) for one, raw in pairs if isinstance(raw, Raw)) + b"}")

    def _time_of(self, value: Any, request_id: str) -> datetime | UnsetType:
        if value is UNSET or value == _NULL:
            return UNSET
        try:
            if not isinstance(value, Raw):
                raise value
            return _parse_time(_decode_time(value))
        except ValueError as error:
            what = f"field `{self._time}` must be RFC 3339 with an offset, or seconds or milliseconds since 1970"
            if isinstance(error, NotAnObject):
                what = str(error)
            raise UnmappedRecord("invalid_request", f"requested_at: {what}", request_id) from None


def _template(declaration: Declaration) -> bytes:
    parts = {}
    for name, feature in declaration.features.items():
        parts[name] = b"%b"
        if not isinstance(feature.constant, UnsetType):
            parts[name] = _scalar(feature.constant, f"features.{name}.constant").replace(b"%", b"%%")
    return _object(parts)


def _object(values: dict[str, bytes]) -> bytes:
    """A template of a JSON object; a name may hold per cent signs."""
    return b"{" + b",".join(_encode(name).replace(b"%", b"%%") + b":" + value for name, value in values.items()) + b"}"


def _scalar(value: bool | float | str, where: str) -> bytes:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidDeclaration(f"{where}: must be finite: JSON has no NaN and no infinities")
    return _encode(value)


def _json_or_null(value: Any) -> Raw:
    return value if isinstance(value, Raw) else _NULL


def _parse_time(value: Any) -> datetime:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("no offset")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("no time")
    milliseconds = value if abs(value) >= _LEAST_MILLISECONDS else value * 1000
    if not 0 <= milliseconds <= MAX_MILLISECONDS:
        raise ValueError("out of range")
    return datetime_of_milliseconds(int(milliseconds)) or datetime.now(UTC)


def _not_json(value: bytes, error: Exception) -> UnmappedRecord:
    if isinstance(error, RecursionError):
        return UnmappedRecord("invalid_request", "the event is nested too deeply to be read")
    if len(value) > 5 and value[0] == 0:
        number = int.from_bytes(value[1:5], "big")
        return UnmappedRecord(
            "not_json",
            f"the value is not JSON: it looks like Avro, Protobuf or JSON Schema with schema id {number}, framed by a "
            "schema registry: set format and registry of [source]",
        )
    try:
        value.decode()
    except UnicodeDecodeError as broken:
        text = f"the value is not UTF-8: byte 0x{value[broken.start]:02x} at {broken.start}"
        return UnmappedRecord("not_utf8", text)
    found = find_non_json_value(value) if len(value) <= _SEARCHED_BYTES else None
    # That of features is about fields of the event here.
    found = found and found.replace("feature `", "field `", 1)
    return UnmappedRecord("not_json", f"the value is not JSON: {found or error}")

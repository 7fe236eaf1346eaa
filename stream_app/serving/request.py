"""Decodes a record into a request, or explains why it is invalid. Messages name fields and never quote a value."""

from typing import Any

import msgspec

from machine_learning_engineering.core.validation import find_non_json_value, parse_decoder_message, safe_field_path
from machine_learning_engineering.events.schemas import PredictionRequested, decode_request

# Larger invalid records are not searched for ids or for the cause.
_BEST_EFFORT_BYTES = 64 * 1024


class InvalidRequest(ValueError):
    """The record can't be read as a request. `model` and `request_id` are set where they could be read anyway."""

    def __init__(self, reason: str, message: str, model: str | None = None, request_id: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.model = model
        self.request_id = request_id


def read_request(value: bytes | None, max_bytes: int) -> PredictionRequested:
    """Decode the request that a record holds. The features stay raw.

    Args:
        max_bytes: maximum size of the value.

    Raises:
        InvalidRequest: with a stable `reason` (`empty_value`, `too_large`, `not_utf8`, `not_json`, `invalid_request`)
            and a message that names the field and the fix.
    """
    if not value:
        raise InvalidRequest("empty_value", "the record has no value; a request is a JSON object " + _expected())
    if len(value) > max_bytes:
        raise InvalidRequest("too_large", f"the value has {len(value):,} bytes; at most {max_bytes:,} are allowed")
    try:
        request = decode_request(value)
    except msgspec.ValidationError as error:
        raise InvalidRequest("invalid_request", _explain(error), *_best_effort_ids(value)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _decode_error(value, error) from None
    # The decoder only skips what stays raw, and that goes into the log as it is.
    if not value.isascii():
        try:
            value.decode()
        except UnicodeDecodeError as error:
            raise _decode_error(value, error) from None
    return request


def without_time(request: PredictionRequested, milliseconds: int) -> InvalidRequest:
    """The reason to refuse a request whose record has an unusable timestamp: nobody can say when it was accepted."""
    message = (
        f"the record's timestamp, {milliseconds}, is missing or not in milliseconds since 1970: set it in "
        "milliseconds, or set message.timestamp.type=LogAppendTime for the topic"
    )
    return InvalidRequest("invalid_timestamp", message, request.model, request.request_id)


def _decode_error(value: bytes, error: Exception) -> InvalidRequest:
    if isinstance(error, RecursionError):
        return InvalidRequest("invalid_request", "features: nested too deeply to be read")
    try:
        value.decode()
    except UnicodeDecodeError as broken:
        return InvalidRequest("not_utf8", f"the value is not UTF-8: byte 0x{value[broken.start]:02x} at {broken.start}")
    found = find_non_json_value(value) if len(value) <= _BEST_EFFORT_BYTES else None
    return InvalidRequest("not_json", f"the value is not JSON: {found or error}")


def _explain(error: msgspec.ValidationError) -> str:
    """msgspec's message, with the field first: ``model: expected `str`, got `int```."""
    found = parse_decoder_message(error)
    what = found.problem
    if named := found.missing or found.unknown:
        name = safe_field_path(named)
        return f"{name}: {_lower(what.replace(named, name))}; a request is {_expected()}"
    # For example an unknown type.
    what = "this value is not one of those that are allowed" if what.startswith("Invalid value") else what
    if found.path:
        return f"{safe_field_path(found.path)}: {_lower(what)}"
    return f"{_lower(what)}; a request is {_expected()}"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _expected() -> str:
    return '{"request_id": "...", "model": "...", "features": {...}, "requested_at": "RFC 3339, optional"}'


def _best_effort_ids(value: bytes) -> tuple[str | None, str | None]:
    """Model and request id of a JSON value that is no request, where they are non-empty strings."""
    if len(value) > _BEST_EFFORT_BYTES:
        return None, None
    try:
        found: Any = msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(found, dict):
        return None, None
    model, request_id = found.get("model"), found.get("request_id")
    return (
        model[:128] if isinstance(model, str) and model else None,
        request_id[:256] if isinstance(request_id, str) and request_id else None,
    )

"""Reads bodies within limits of size, depth and time, and the requests in them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Self, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from starlette.requests import ClientDisconnect, Request

from machine_learning_engineering.core.json_values import is_deeper
from machine_learning_engineering.core.validation import parse_decoder_message, safe_field_path
from machine_learning_engineering.events.schemas import Timestamp
from producers.gateway.problems import Problem
from producers.gateway.settings import GatewaySettings

T = TypeVar("T")


class Limits(Struct, frozen=True):
    """Limits of a body: bytes, levels of nesting, and seconds until it has arrived."""

    max_bytes: int
    max_depth: int
    seconds: float

    @classmethod
    def of(cls, settings: GatewaySettings) -> Self:
        """Those of the settings."""
        return cls(settings.gateway_max_body_bytes, settings.gateway_max_depth, settings.gateway_body_timeout)


class PredictionBody(Struct, frozen=True, forbid_unknown_fields=True):
    """One row as `features`, or many as `rows`."""

    features: Raw | UnsetType = UNSET
    rows: list[Raw] | UnsetType = UNSET


class LabelBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A label, any JSON value. `model` is needed only for a request that the gateway does not know."""

    label: Raw
    observed_at: Timestamp | UnsetType = UNSET
    model: str | UnsetType = UNSET


def media_type(request: Request) -> str:
    """The media type of the body, in lower case; empty if the client does not say it."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def declared_size(request: Request, limits: Limits, *, json: bool = True) -> int:
    """What to reserve for the body: the size that its header declares, or the largest that is allowed.

    Args:
        json: the body has to be declared as JSON.

    Raises:
        Problem: the body is declared as too large, or as something else.
    """
    if json and media_type(request) != "application/json":
        # A web page of another origin can send other types without asking.
        raise Problem("unsupported-media-type", "send JSON with the header Content-Type: application/json", close=True)
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem("unsupported-media-type", "send the body without Content-Encoding", close=True)
    declared = request.headers.get("content-length")
    if declared is None:
        return limits.max_bytes
    if not (declared.isascii() and declared.isdigit() and len(declared) < 16) or int(declared) > limits.max_bytes:
        raise _too_large(limits)
    return int(declared)


async def read_body(request: Request, limits: Limits) -> bytes:
    """Read the body.

    Raises:
        Problem: it is too large, too slow, or not UTF-8.
    """
    received = bytearray()
    try:
        async with asyncio.timeout(limits.seconds):
            stream: AsyncIterator[bytes] = request.stream()
            async for chunk in stream:
                if len(received) + len(chunk) > limits.max_bytes:
                    raise _too_large(limits)
                received += chunk
    except TimeoutError:
        message = f"the body did not arrive within {limits.seconds:g} s: send it faster, or in smaller requests"
        raise Problem("body-timeout", message, close=True) from None
    except ClientDisconnect:
        raise Problem("body-timeout", "the connection was closed within the body", close=True) from None
    return bytes(received)


def decode(body: bytes, kind: type[T], limits: Limits, example: Any = None) -> T:
    """Decode a body.

    Args:
        example: a valid body, for the message.

    Raises:
        Problem: it is no JSON, nested too deeply, or not of this kind. The message names the field.
    """
    try:
        if not body.isascii():
            # The decoder skips what stays raw.
            body.decode()
        found = msgspec.json.decode(body, type=kind)
        if is_deeper(body, limits.max_depth):
            raise RecursionError
    except UnicodeDecodeError as error:
        message = f"the body is not UTF-8: byte 0x{body[error.start]:02x} at {error.start}"
        raise Problem("malformed-request", message, example=example) from None
    except RecursionError:
        message = f"the body is nested more than {limits.max_depth} levels deep: make it flatter"
        raise Problem("malformed-request", message, example=example) from None
    except msgspec.ValidationError as error:
        parsed = parse_decoder_message(error)
        field = safe_field_path(parsed.missing or parsed.unknown or parsed.path or "body")
        message = f"{field}: {_described(parsed.problem, bool(parsed.missing), bool(parsed.unknown))}"
        raise Problem("invalid-request", message, field=field, example=example) from None
    except msgspec.DecodeError as error:
        # Its message has a position and no value.
        raise Problem("malformed-request", f"the body is not JSON: {error}", example=example) from None
    return found


def require_objects(rows: list[Raw], name: str, example: Any) -> None:
    """Check that each row is a JSON object.

    Raises:
        Problem: one is not.
    """
    for number, row in enumerate(rows):
        if not bytes(row).startswith(b"{"):
            field = f"{name}[{number}]" if name == "rows" else name
            raise Problem("invalid-request", f"{field}: must be an object of features", field=field, example=example)


def _described(problem: str, missing: bool, unknown: bool) -> str:
    if missing:
        return "is missing"
    if unknown:
        return "there is no such field"
    return problem[:1].lower() + problem[1:]


def _too_large(limits: Limits) -> Problem:
    return Problem("too-large", f"a body may have {limits.max_bytes:,} bytes: send fewer rows at a time", close=True)

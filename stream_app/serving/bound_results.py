"""Results of requests that came from an existing topic: with their origin, and where their declaration sends them."""

from typing import Any, Protocol

import msgspec
from msgspec import Raw

from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.headers import RecordHeaders
from machine_learning_engineering.events.schemas import (
    Error,
    PredictionCompleted,
    PredictionFailed,
    PredictionRequested,
)
from stream_app.serving.bindings import Binding, Origin
from stream_app.serving.outputs import OutputRecord, output_record

# A byte that JSON text never holds.
SLOT: Any = Raw(b"\0")


class BoundRow(Protocol):
    """A request with its origin."""

    request: PredictionRequested
    record: Any
    headers: RecordHeaders
    origin: Origin | None


def template(event: msgspec.Struct) -> list[bytes]:
    """The JSON of an event around its slots, whose values are inserted as JSON."""
    return events.encode(event).split(b"\0")


class BoundResults:
    """Makes the results of one predict call; the template of each binding is encoded once.

    Args:
        event: has slots for request id, prediction and the time of the request.
    """

    def __init__(self, event: PredictionCompleted) -> None:
        self._event = event
        self._binding: Binding | None = None
        self._format = b""

    def output(self, row: BoundRow, request_id: bytes, prediction: bytes, requested_at: bytes) -> OutputRecord | None:
        """The result of a row, whose values are JSON; None if it is larger than its topic takes."""
        origin = row.origin
        assert origin is not None
        binding = origin.binding
        if binding is not self._binding:
            self._binding = binding
            self._format = _format(msgspec.structs.replace(self._event, **binding.extra_slots(SLOT)))
        result = self._format % (request_id, prediction, requested_at, *binding.extras(origin))
        output = _output(row, origin, result, PredictionCompleted)
        limit = binding.max_result_bytes
        return None if limit is not None and len(output[1] or b"") > limit else output


def failed_output(row: BoundRow, result: PredictionFailed) -> OutputRecord:
    """The failure of a request that came from an existing topic."""
    origin = row.origin
    assert origin is not None
    binding = origin.binding
    made = _format(msgspec.structs.replace(result, **binding.extra_slots(SLOT)))
    output = _output(row, origin, made % binding.extras(origin), PredictionFailed)
    if not binding.is_enriched and not binding.takes(len(output[1] or b"")):
        # What is included may be what is too large.
        return _output(
            row, origin, events.encode(msgspec.structs.replace(result, source=origin.place)), PredictionFailed
        )
    return output


def too_large(binding: Binding) -> Error:
    """Why a row fails whose result its topic does not take."""
    limit = f"{binding.max_result_bytes:,}" if binding.max_result_bytes else "its limit"
    what = f"the result is larger than {binding.results} takes, {limit} bytes: raise its max.message.bytes"
    return Error("prediction_error", what)


def _output(row: BoundRow, origin: Origin, result: bytes, event: type[msgspec.Struct]) -> OutputRecord:
    binding, key = origin.binding, row.record.key()
    value = binding.value_of(result, origin) if binding.is_enriched else result
    if not row.headers:
        return key, value, None
    request_id = row.request.request_id
    if not binding.is_own_topic:
        return output_record(key, value, event, request_id, row.headers)
    tag = str(event.__struct_config__.tag)
    return key, value, binding.headers(row.headers, tag, f"{request_id}/{tag}")


def _format(event: msgspec.Struct) -> bytes:
    """A format of an event's JSON for the values of its slots."""
    return b"%b".join(part.replace(b"%", b"%%") for part in template(event))

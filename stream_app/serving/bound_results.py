"""Results of requests that came from an existing topic: with their origin, and where their declaration sends them."""

from collections.abc import Sequence
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
        self._template: list[bytes] = []

    def output(self, row: BoundRow, request_id: bytes, prediction: bytes, requested_at: bytes) -> OutputRecord | None:
        """The result of a row, whose values are JSON; None if it is larger than its topic takes."""
        origin = row.origin
        assert origin is not None
        binding = origin.binding
        if binding is not self._binding:
            self._binding = binding
            self._template = template(msgspec.structs.replace(self._event, **binding.extra_slots(SLOT)))
        values = (request_id, prediction, requested_at, *binding.extras(origin))
        output = _output(row, origin, _fill(self._template, values), PredictionCompleted)
        return output if binding.takes(len(output[1] or b"")) else None


def failed_output(row: BoundRow, result: PredictionFailed) -> OutputRecord:
    """The failure of a request that came from an existing topic."""
    origin = row.origin
    assert origin is not None
    binding = origin.binding
    slots = template(msgspec.structs.replace(result, **binding.extra_slots(SLOT)))
    output = _output(row, origin, _fill(slots, binding.extras(origin)), PredictionFailed)
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
    binding, request_id, key = origin.binding, row.request.request_id, row.record.key()
    value = binding.value_of(result, origin)
    if not row.headers:
        return key, value, None
    if not binding.is_own_topic:
        return output_record(key, value, event, request_id, row.headers)
    tag = str(event.__struct_config__.tag)
    return key, value, binding.headers(row.headers, tag, f"{request_id}/{tag}")


def _fill(slots: list[bytes], values: Sequence[bytes]) -> bytes:
    """JSON from a template and what is in its slots."""
    parts = [slots[0]]
    for value, after in zip(values, slots[1:], strict=True):
        parts += (value, after)
    return b"".join(parts)

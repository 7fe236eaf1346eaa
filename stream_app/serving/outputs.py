"""What is written for a request, as records: its answers, or the dead letter of what is none."""

from typing import Any

import msgspec

from machine_learning_engineering.dead_letters.letter import DeadLetterOrigin, dead_letter
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.headers import RecordHeaders, carried
from stream_app.kafka.publisher import Record
from stream_app.serving.request import InvalidRequest


def answer(key: bytes | None, event: msgspec.Struct, headers: RecordHeaders) -> Record:
    """An event as the record under the request's key, with what of the request's headers belongs to every answer."""
    value = events.encode(event)
    if not headers:
        return {"key": key, "value": value}
    tag = str(event.__struct_config__.tag)
    event_id = f"{event.request_id}/{tag}"  # type: ignore[attr-defined]
    return {"key": key, "value": value, "headers": carried(headers, event_type=tag, event_id=event_id)}


def letter(record: Any, headers: RecordHeaders, error: InvalidRequest) -> Record:
    """The dead letter of a record that can't be read as a request."""
    origin = DeadLetterOrigin(
        reason=error.reason,
        message=str(error),
        stage="decode",
        topic=record.topic(),
        partition=record.partition(),
        offset=record.offset(),
        model=error.model,
        request_id=error.request_id,
    )
    key, value, with_origin = dead_letter(origin, record.key(), record.value(), headers)
    return {"key": key, "value": value, "headers": with_origin}

"""The records written for a request: its result and log record, or a dead letter if it can't be read."""

from typing import Any

import msgspec

from machine_learning_engineering.dead_letters.letter import DeadLetterOrigin, dead_letter
from machine_learning_engineering.events.headers import RecordHeaders, carried
from machine_learning_engineering.events.schemas import MAX_ERROR_CHARACTERS
from machine_learning_engineering.events.unreadable import truncated_size
from stream_app.serving.request import InvalidRequest

OutputRecord = tuple[bytes | None, bytes | None, list[tuple[str, bytes]] | list[tuple[str, bytes | None]] | None]
"""Key, value and headers of a record to publish. A plain tuple, since two are made for each request."""


def output_record(
    key: bytes | None, value: bytes, event: type[msgspec.Struct], request_id: str, headers: RecordHeaders
) -> OutputRecord:
    """An encoded event under the key of its request, with those of the request's `headers` that every output carries.

    Args:
        event: the type of the event.
    """
    if not headers:
        return key, value, None
    tag = str(event.__struct_config__.tag)
    return key, value, carried(headers, event_type=tag, event_id=f"{request_id}/{tag}")


def dead_letter_record(record: Any, headers: RecordHeaders, error: InvalidRequest) -> OutputRecord:
    """The dead letter of a record that can't be read as a request."""
    origin = DeadLetterOrigin(
        reason=error.reason,
        message=str(error)[:MAX_ERROR_CHARACTERS],
        stage="decode",
        topic=record.topic(),
        partition=record.partition(),
        offset=record.offset(),
        model=error.model,
        request_id=error.request_id,
        truncated=truncated_size(record),
    )
    return dead_letter(origin, record.key(), record.value(), headers)

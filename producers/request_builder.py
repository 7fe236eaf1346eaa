"""Builds records from requests: ids, models, times, shifts and traces."""

import random
import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec
from msgspec import Raw

from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.schemas import PredictionRequested
from machine_learning_engineering.observability.trace import TRACEPARENT
from producers.publisher import Headers
from producers.shift import Shift
from producers.sources import Request

_ID = re.compile(r"(?s).+-([0-9]{8,})")


class Record(NamedTuple):
    """A record to publish unchanged, well-formed or not. Without a key it uses up a request id, but gets no key."""

    value: bytes | None
    key: bytes | None = None
    headers: Headers | None = None


Source = Request | Record | Raw | bytes | Mapping[str, Any]
"""What can be published: a request, features (a mapping or raw JSON), a record, or raw bytes with a new key."""


class RequestBuilder:
    """Builds a record from each item of a source, with a new id if the item has none."""

    def __init__(self, model: str | None, shift: Sequence[Shift] = (), id_prefix: str | None = None) -> None:
        self._model = model
        self._shift = shift
        # Like a UUID 7: 12 hexadecimal digits of milliseconds and 10 random ones.
        self.prefix = f"{time.time_ns() // 1_000_000:012x}{uuid4().hex[:10]}" if id_prefix is None else id_prefix

    def build(self, item: Source, number: int) -> tuple[str, Record]:
        """The request id and the record of `item`. The bytes of an unchanged record need not contain the id.

        Args:
            number: the item's index in its source, used for the id if the item has none.
        """
        fresh = request_id_of(self.prefix, number)
        if isinstance(item, Record):
            return fresh if item.key is None else item.key.decode(errors="replace"), item
        if isinstance(item, bytes):
            return fresh, Record(item, fresh.encode())
        request = item if isinstance(item, Request) else Request(item)
        model = request.model or self._model
        if model is None:
            raise ValueError("the request names no model: add one, or use --model")
        request_id = request.request_id or fresh
        event = PredictionRequested(
            request_id, model, self._features(request.features), request.requested_at or datetime.now(UTC)
        )
        return request_id, Record(events.encode(event), request_id.encode())

    def _features(self, features: Raw | Mapping[str, Any]) -> Raw:
        if self._shift:
            shifted = msgspec.json.decode(features) if isinstance(features, Raw) else dict(features)
            if not isinstance(shifted, dict):
                raise ValueError("cannot shift features that are not a JSON object")
            for shift in self._shift:
                shift.apply(shifted)
            features = shifted
        return features if isinstance(features, Raw) else Raw(msgspec.json.encode(features))


def request_id_of(prefix: str, number: int) -> str:
    """The id of a replay's request; numbers start at 0."""
    return f"{prefix}-{number:08d}"


def number_of(request_id: str) -> int | None:
    """The number in the id of a replay's request; None if the id has another form."""
    match = _ID.fullmatch(request_id)
    return None if match is None else int(match[1])


def new_traceparent() -> str:
    """The W3C trace context of a new, sampled trace."""
    return f"00-{random.getrandbits(128) | 1:032x}-{random.getrandbits(64) | 1:016x}-01"


def with_trace(headers: Headers | None) -> Headers:
    """The headers with the root of a new trace."""
    return [*(headers or ()), (TRACEPARENT, new_traceparent().encode())]

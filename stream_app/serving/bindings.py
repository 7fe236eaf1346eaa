"""Bindings: which model answers the records of an existing topic, how they are read, and where results go. Pure."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, UnsetType

from machine_learning_engineering.core.timestamps import MAX_MILLISECONDS
from machine_learning_engineering.declaration.framed import Decode
from machine_learning_engineering.declaration.mapping import MappedRecord, SourceMapping, UnmappedRecord
from machine_learning_engineering.declaration.reading import InvalidDeclaration
from machine_learning_engineering.declaration.schema import Declaration
from machine_learning_engineering.events.headers import CLOUDEVENTS_PREFIX, RecordHeaders, own_attributes
from machine_learning_engineering.events.schemas import SourcePosition
from machine_learning_engineering.events.sources import SOURCE
from stream_app.serving.request import InvalidRequest

logger = logging.getLogger(__name__)

SAMPLED = 256
"""One record of this number is searched for fields that the declaration does not name."""
TRUSTED_AGE_MILLISECONDS = 7 * 24 * 3_600_000
"""A producer's time is taken for that of acceptance if it is not older: the log has an index for each day."""
_LOG_APPEND_TIME = 2
MAX_FAILURE_BYTES = 32 * 1024
"""A failure has at most this size: its message is bounded, and every character may be escaped."""
_MAX_NAMES = 100


class Binding:
    """A source of requests for one model, with the place of its results.

    Args:
        declaration: has a `source`.
        results: full name of the deployment's topic of results.
        decode: turns values into JSON, if they are not.

    Raises:
        InvalidDeclaration: `source`, `features` or `result` can't be used.
    """

    def __init__(self, declaration: Declaration, results: str, decode: Decode | None = None) -> None:
        self._mapping = SourceMapping(declaration)
        self.source, self.result = self._mapping.source, declaration.result
        self.model = declaration.model.name
        self.topic = self.source.topic
        self.is_own_topic = bool(self.result.topic)
        self.results = self.result.topic or results
        self.is_enriched = self.result.form == "enriched"
        if self.is_enriched and not self.is_own_topic:
            raise InvalidDeclaration("result.form: enriched needs result.topic: other readers expect results alone")
        if self.is_enriched and self.source.format != "json":
            raise InvalidDeclaration(f"result.form: enriched needs a source of JSON, not {self.source.format}")
        if self.results == self.topic:
            raise InvalidDeclaration(f"result.topic: {self.topic} is the source: results would be read as requests")
        self._decode = decode
        self._position = b'{"topic":%b,"partition":%%d,"offset":%%d}' % msgspec.json.encode(self.topic)
        self._field = b"," + msgspec.json.encode(self.result.field) + b":"
        self._has_position, self._includes = self.result.source_position, bool(self.result.include)
        self._read = 0
        self._names: set[str] = set()
        self.max_result_bytes: int | None = None
        """Largest result that the topic takes, if it has a limit of its own."""
        self.needs_key = False
        """Whether the topic takes no record without a key, since it is compacted."""

    def take_limits(self, other: "Binding") -> None:
        """Take what the topic of results takes from another binding with the same one."""
        self.max_result_bytes, self.needs_key = other.max_result_bytes, other.needs_key

    def takes(self, size: int) -> bool:
        """Whether the topic of results takes a value of this size."""
        return self.max_result_bytes is None or size <= self.max_result_bytes

    def read(self, record: Any, headers: RecordHeaders, place: SourcePosition, max_bytes: int) -> MappedRecord | None:
        """Map a record; None for a tombstone, which asks for nothing.

        Args:
            place: where it is in the source; not its own place if it was sent again.
            max_bytes: maximum size of the value.

        Raises:
            InvalidRequest: it becomes a dead letter.
            SchemaRegistryAway: it can't be read now.
        """
        value: bytes | None = record.value()
        if value is None:
            return None
        if not value:
            raise InvalidRequest("empty_value", "the record has an empty value; an event is a JSON object")
        if len(value) > max_bytes:
            what = f"the value has {len(value):,} bytes; at most {max_bytes:,} are allowed"
            raise InvalidRequest("too_large", what, self.model)
        if self.is_enriched and not self.takes(len(value) + MAX_FAILURE_BYTES):
            what = f"the value has {len(value):,} bytes; enriched, it would be larger than {self.results} takes"
            raise InvalidRequest("too_large", what, self.model)
        if self.needs_key and record.key() is None:
            what = f"the record has no key, and {self.results} takes none without: it is compacted"
            raise InvalidRequest("invalid_request", what, self.model)
        try:
            event = value if self._decode is None else self._decode(value)
            mapped = self._mapping.read(event, record.key(), headers, place.topic, place.partition, place.offset)
            if self.is_enriched:
                self._check_field(event, mapped.request_id)
        except UnmappedRecord as error:
            raise InvalidRequest(error.reason, str(error), self.model, error.request_id) from None
        return mapped

    def unknown_fields(self, record: Any) -> int:
        """How many fields the declaration does not name, in one record of `SAMPLED`; each name is logged once."""
        self._read += 1
        if self._read % SAMPLED != 1 or self.source.unknown_fields == "refuse":
            return 0
        try:
            value = record.value()
            found = self._mapping.unknown_fields(value if self._decode is None else self._decode(value))
        except UnmappedRecord:
            return 0
        new = set(found) - self._names
        if new and len(self._names) < _MAX_NAMES:
            self._names |= new
            logger.info("%s: no feature of %s is read from %s", self.topic, self.model, ", ".join(sorted(new)))
        return len(found)

    def extras(self, origin: "Origin") -> tuple[bytes, ...]:
        """JSON of the further fields of a result, in order: where the request came from, and what is included."""
        if not self._has_position:
            return (origin.included,) if self._includes else ()
        position = self._position % (origin.place.partition, origin.place.offset)
        return (position, origin.included) if self._includes else (position,)

    def extra_slots(self, slot: Any) -> dict[str, Any]:
        """The fields of `extras` with a slot each, for an event."""
        position = {"source": slot} if self.result.source_position else {}
        return position | {"included": slot} if self.result.include else position

    def value_of(self, result: bytes, origin: "Origin") -> bytes:
        """The value of an enriched output: the source's event with the result in it."""
        event = origin.event.rstrip()
        # Of an empty object, without the comma.
        field = self._field if event.lstrip()[1:-1].strip() else self._field[1:]
        return b"".join((event[:-1], field, result, b"}"))

    def headers(self, incoming: RecordHeaders, event_type: str, event_id: str) -> list[tuple[str, bytes | None]] | None:
        """Headers of an output on a topic of its own: those of the source's record.

        Of a CloudEvent, a result has type, id and time of its own; an enriched event is the source's.
        """
        kept = [header for header in incoming if header[0] != SOURCE]
        if not self.is_enriched and any(name.startswith(CLOUDEVENTS_PREFIX) for name, _ in kept):
            kept = own_attributes(kept, event_type, event_id)
        return kept or None

    def accepted_at(self, kind: int, milliseconds: int, now: float) -> int:
        """When a record was accepted, in milliseconds.

        Where producers set the time, one in the future or older than `TRUSTED_AGE_MILLISECONDS` would give the log
        indices of any day: the time of scoring takes its place.

        Args:
            kind: type of the record's timestamp.
            now: seconds since 1970.
        """
        latest = int(now * 1000)
        if kind == _LOG_APPEND_TIME and 0 <= milliseconds <= MAX_MILLISECONDS:
            return milliseconds
        return milliseconds if max(0, latest - TRUSTED_AGE_MILLISECONDS) <= milliseconds <= latest else latest

    def _check_field(self, event: bytes, request_id: str) -> None:
        name = self.result.field
        if name.encode() in event and name in msgspec.json.decode(event, type=dict[str, Raw]):
            what = f"the event has a field `{name}` already: give result.field another name"
            raise UnmappedRecord("invalid_request", what, request_id)


class Origin(NamedTuple):
    """Where a request of a bound topic came from."""

    binding: Binding
    place: SourcePosition
    included: bytes
    event: bytes
    """The source's value; empty if no output needs it."""
    topic: str | UnsetType
    """Topic to log; unset if the record is on the topic of requests, where it was sent again."""


Bindings = Mapping[str, Binding]
"""By the full name of the source's topic."""


def bindings_of(found: Iterable[Binding]) -> dict[str, Binding]:
    """Bindings by topic.

    Raises:
        InvalidDeclaration: two models read one topic, or results come back as requests.
    """
    bindings: dict[str, Binding] = {}
    for one in found:
        other = bindings.setdefault(one.topic, one)
        if other is not one:
            raise InvalidDeclaration(
                f"source.topic: {one.topic} is read for {other.model} already: a topic has one model, as each "
                f"record has one outcome; have {one.model} read a topic of its own"
            )
    for one in bindings.values():
        seen, at = {one.topic}, one
        while at.is_own_topic and at.results in bindings:
            at = bindings[at.results]
            if at.topic in seen:
                raise InvalidDeclaration(f"result.topic: results of {one.model} come back to {one.topic} as requests")
            seen.add(at.topic)
    return bindings

"""Fields, index names and ids that the documents of all families share."""

from datetime import UTC, datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Generic, TypeVar

from msgspec import UNSET, Raw, Struct, UnsetType, field

FAMILIES = ("logs", "drift", "quality", "dead-letters", "model-events")
ECS = Raw(b'{"version":"8.11.0"}')
SERVICE = Raw(b'{"name":"inflight"}')
MODULE = "inflight"


class Id(Struct, frozen=True):
    id: str


class ErrorFields(Struct, frozen=True):
    """ECS `error.*`."""

    type: str
    message: str


class ModelFields(Struct, frozen=True):
    name: str
    version: str | UnsetType = UNSET


class PlainEvent(Struct, frozen=True):
    """ECS `event.*` of a document without an outcome."""

    kind: str
    action: str
    dataset: str
    module: str = MODULE


class Position(Struct, frozen=True):
    """Position of a record in its topic."""

    partition: int
    offset: int


T = TypeVar("T")


class PlainDocument(Struct, Generic[T], frozen=True):
    """A document with `inflight.*` of its own family; `@timestamp` is the time of the measurement or event."""

    timestamp: datetime = field(name="@timestamp")
    event: PlainEvent
    inflight: T
    ecs: Raw = ECS
    service: Raw = SERVICE


class Period(Struct, frozen=True):
    """Half-open interval: `end` is exclusive."""

    start: datetime
    end: datetime


def daily_index(family: str, moment: datetime) -> str:
    """The index of a family for the UTC day of a moment."""
    day = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return _index(family, day.year, day.month, day.day)


@lru_cache(maxsize=64)
def _index(family: str, year: int, month: int, day: int) -> str:
    return f"inference-{family}-{year:04}.{month:02}.{day:02}"


def digest(*parts: object) -> str:
    """Deterministic `_id` of its parts, in 32 hexadecimal digits."""
    return blake2b("\0".join(map(str, parts)).encode(), digest_size=16).hexdigest()

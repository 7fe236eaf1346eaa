"""Fields, index names and ids that the documents of all families share."""

from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Generic, TypeVar

from msgspec import UNSET, Raw, Struct, UnsetType, field

from machine_learning_engineering.core.timestamps import to_utc

FAMILIES = ("logs", "api", "shadows", "drift", "quality", "dead-letters", "model-events")
DAILY = ("logs", "api", "shadows")
"""Families with an index a day; the others have one a month. Each is a shard, of which a node takes a thousand."""
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


def index_for(family: str, moment: datetime) -> str:
    """The index of a family for a moment: that of its UTC day or month."""
    utc = to_utc(moment)
    return _index(family, utc.year, utc.month, utc.day if family in DAILY else 0)


@lru_cache(maxsize=64)
def _index(family: str, year: int, month: int, day: int) -> str:
    return f"inference-{family}-{year:04}.{month:02}" + (f".{day:02}" if day else "")


def digest(*parts: object) -> str:
    """Deterministic `_id` of its parts, in 32 hexadecimal digits."""
    return blake2b("\0".join(map(str, parts)).encode(), digest_size=16).hexdigest()

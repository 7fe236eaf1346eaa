"""Which field of a topic's events is which feature, and what identifies and dates an event: by names and values."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from machine_learning_engineering.declaration.schema import FeatureDeclaration

__all__ = ["EventFields", "Match", "find_fields", "match_features"]

_MAX_DEPTH = 8
_MAX_FIELDS = 2_000
_SEPARATORS = re.compile(r"[^a-z0-9]+")
_BOUNDARY = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_ID = re.compile(r"(^|_)(id|uuid|guid|key|number|no)$")
_TIME = re.compile(r"(^|_)(ts|time|timestamp|at|date|datetime|created|occurred)(_|$)")
_LEAST_SECONDS, _MOST_MILLISECONDS = 500_000_000, 100_000_000_000_000
_parse_time = msgspec.json.Decoder(datetime).decode


class EventFields(NamedTuple):
    """Scalar fields of events.

    `values` are those of each path in the events that have it, null included; `key`, `request_id` and `requested_at`
    the path that the record's key is the value of, the one that identifies an event, and its time; empty if none is.
    """

    events: int
    values: Mapping[str, Sequence[Any]]
    key: str
    request_id: str
    requested_at: str


class Match(NamedTuple):
    """The paths that may be a feature, the most similar first: of one, it is decided."""

    paths: tuple[str, ...]

    @property
    def path(self) -> str | None:
        """The path if it is decided."""
        return self.paths[0] if len(self.paths) == 1 else None


def find_fields(events: Iterable[tuple[bytes | None, bytes | None]]) -> EventFields:
    """Read the fields of events.

    Args:
        events: Key and value of each record. A value that is no JSON object is left out.
    """
    values: dict[str, list[Any]] = {}
    keys: dict[str, int] = {}
    count = 0
    for key, value in events:
        try:
            event = msgspec.json.decode(value or b"")
        except (ValueError, RecursionError):
            continue
        if not isinstance(event, dict):
            continue
        count += 1
        for path, scalar in _scalars(event):
            if path not in values and len(values) >= _MAX_FIELDS:
                continue
            values.setdefault(path, []).append(scalar)
            if key is not None and scalar is not None and _text(scalar).encode() == key:
                keys[path] = keys.get(path, 0) + 1
    same_as_key = [path for path, found in keys.items() if count and found == count]
    return EventFields(
        count,
        values,
        key=min(same_as_key, key=_depth, default=""),
        request_id=_identifying(values, count),
        requested_at=_dating(values, count),
    )


def match_features(features: Mapping[str, FeatureDeclaration], fields: EventFields) -> dict[str, Match]:
    """Find the field of each feature.

    A path whose name, or whose whole spelling, is the feature's is a match; the case of letters, ``_`` and ``-`` do not
    count. Of several matches, those count whose values fit the feature's type.
    """
    return {name: Match(_candidates(name, feature, fields)) for name, feature in features.items()}


def _candidates(name: str, feature: FeatureDeclaration, fields: EventFields) -> tuple[str, ...]:
    wanted = _normal(name)
    whole = [path for path in fields.values if _normal(path) == wanted]
    last = [path for path in fields.values if _normal(_last(path)) == wanted]
    # An object's name is often repeated in its fields' or left out: customer_country is customer.country.
    ends = [path for path in fields.values if f"_{_normal(path)}".endswith(f"_{wanted}")]
    for found in (whole, last, ends):
        fitting = [path for path in found if _fits(fields.values[path], feature)]
        if found:
            return tuple(sorted(fitting or found, key=lambda path: (_depth(path), path)))
    return ()


def _fits(values: Sequence[Any], feature: FeatureDeclaration) -> bool:
    present = [value for value in values if value is not None]
    if feature.type == "text":
        return all(isinstance(value, str) for value in present)
    if feature.type == "bool":
        return all(isinstance(value, bool) for value in present)
    numbers = [value for value in present if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(present):
        return False
    return feature.type == "float" or all(float(number).is_integer() for number in numbers)


def _scalars(event: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterable[tuple[str, Any]]:
    for name, value in event.items():
        if not name or "." in name or "/" in name:
            # Reached by a pointer only, which a person has to write.
            continue
        path = f"{prefix}{name}"
        if isinstance(value, dict):
            if depth < _MAX_DEPTH:
                yield from _scalars(value, f"{path}.", depth + 1)
        elif not isinstance(value, list):
            yield path, value


def _identifying(values: Mapping[str, Sequence[Any]], events: int) -> str:
    """The path of an id that every event has and no two share; the shallowest."""
    found = [
        path
        for path, those in values.items()
        if events > 1
        and len(those) == events
        and _ID.search(_normal(_last(path)))
        and all(isinstance(value, str | int) and not isinstance(value, bool) and value != "" for value in those)
        and len(set(those)) == events
    ]
    return min(found, key=lambda path: (_depth(path), len(path), path), default="")


def _dating(values: Mapping[str, Sequence[Any]], events: int) -> str:
    found = [
        path
        for path, those in values.items()
        if events and len(those) == events and _TIME.search(_normal(_last(path))) and all(map(_is_time, those))
    ]
    return min(found, key=lambda path: (_depth(path), len(path), path), default="")


def _is_time(value: Any) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _LEAST_SECONDS <= value <= _MOST_MILLISECONDS
    if not isinstance(value, str):
        return False
    try:
        return _parse_time(msgspec.json.encode(value)).tzinfo is not None
    except msgspec.ValidationError:
        return False


def _normal(name: str) -> str:
    return _SEPARATORS.sub("_", _BOUNDARY.sub("_", name).lower()).strip("_")


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def _depth(path: str) -> int:
    return path.count(".")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()

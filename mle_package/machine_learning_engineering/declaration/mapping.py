"""From a record of an existing topic to a request: its id and features, by the paths of a declaration."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from machine_learning_engineering.declaration.schema import Declaration

__all__ = ["MappedRecord", "SourceMapping", "UnmappedRecord"]


class UnmappedRecord(ValueError):
    """A record can't be read as a request."""

    def __init__(self, reason: str, message: str, request_id: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.request_id = request_id


class MappedRecord(NamedTuple):
    """A record as a request."""

    request_id: str
    features: Raw
    refusal: str = ""


class SourceMapping:
    """Maps records as a declaration says."""

    def __init__(self, declaration: Declaration) -> None:
        self._features = declaration.features

    def read(
        self,
        value: bytes,
        key: bytes | None = None,
        headers: Iterable[tuple[str, bytes | None]] = (),
        topic: str = "",
        partition: int = 0,
        offset: int = 0,
    ) -> MappedRecord:
        """Map a record.

        Raises:
            UnmappedRecord: It is not JSON.
        """
        try:
            event = msgspec.json.decode(value)
        except (ValueError, RecursionError) as error:
            raise UnmappedRecord("not_json", f"the value is not JSON: {error}") from None
        found = {}
        for name, feature in self._features.items():
            if feature.constant is not UNSET:
                continue
            one: Any = event
            for step in (feature.from_ or name).split("."):
                one = one.get(step) if isinstance(one, dict) else None
            if one is not None:
                found[name] = one
        return MappedRecord(f"{topic}-{partition}-{offset}", Raw(msgspec.json.encode(found)))

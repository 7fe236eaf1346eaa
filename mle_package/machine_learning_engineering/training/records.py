"""An example as it was found, and the source that it is from."""

from typing import NamedTuple

from msgspec import Struct


class SourceUnreadable(ValueError):
    """A source holds no examples that can be read; the message names it and the fix."""


class LogUnreadable(SourceUnreadable):
    """A prediction log is missing or away, or can't be read: that is no fault of the data."""


class Record(NamedTuple):
    """One example as it was found: `features` and `label` are JSON texts, `number` counts from 1 within `source`."""

    source: str
    number: int
    features: bytes
    label: bytes
    group: str | None


class Source(Struct, frozen=True):
    """One file, dataset or log that was read. `kept` is where the raw file is kept, empty if there is none.

    `sha256` is the digest of the raw file; where there is none, of the records. `skipped` counts, by reason, what of
    a log could not be used, see `training.logged`.
    """

    name: str
    sha256: str
    rows: int
    kept: str = ""
    skipped: dict[str, int] = {}

"""Timestamps: parsing, offsets and microseconds since the epoch."""

import re
from datetime import UTC, datetime, timedelta


def aware(moment: datetime) -> datetime:
    """The moment itself.

    Raises:
        ValueError: it has no offset, so that it is no moment.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no offset: give an aware datetime, such as datetime.now(UTC)")
    return moment


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


MICROSECOND = timedelta(microseconds=1)


def to_microseconds(moment: datetime) -> int:
    return (aware(moment) - EPOCH) // MICROSECOND


_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def parse_time(text: str, now: datetime | None = None) -> datetime:
    """A moment from RFC 3339 (`2026-01-31T12:00:00Z`; local without an offset) or an age (`90s`, `15m`, `2h`, `1d`).

    Raises:
        ValueError: the text is neither.
    """
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return (now or datetime.now(UTC)) - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise ValueError(f"{text!r} is no time: write 15m, 2h, 1d or 2026-01-31T12:00:00Z") from None

"""Timestamps: parsing, time zones, and microseconds since the epoch."""

import re
from datetime import UTC, datetime, timedelta

MAX_MILLISECONDS = 253_402_300_799_999
"""The last millisecond of the year 9999."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def aware(moment: datetime) -> datetime:
    """Return `moment` unchanged.

    Raises:
        ValueError: It is naive: without a UTC offset, it is no point in time.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no offset: give an aware datetime, such as datetime.now(UTC)")
    return moment


def to_utc(moment: datetime) -> datetime:
    """Convert an aware datetime to UTC; to the first or last moment that a datetime can hold, if it is beyond them."""
    try:
        return aware(moment).astimezone(UTC)
    except OverflowError:
        return (datetime.min if moment.year == 1 else datetime.max).replace(tzinfo=UTC)


def to_microseconds(moment: datetime) -> int:
    """Convert an aware datetime to microseconds since 1970-01-01T00:00Z.

    Raises:
        ValueError: `moment` is naive.
    """
    return (aware(moment) - _EPOCH) // _MICROSECOND


def from_microseconds(microseconds: int) -> datetime:
    """Convert microseconds since 1970-01-01T00:00Z to a datetime in UTC."""
    return _EPOCH + microseconds * _MICROSECOND


def datetime_of_milliseconds(milliseconds: int) -> datetime | None:
    """Convert milliseconds since 1970-01-01T00:00Z, the timestamp of a Kafka record, to a datetime in UTC.

    Returns:
        None if that is no time: negative, which stands for none, or after the year 9999, as microseconds are.
    """
    return from_microseconds(1000 * milliseconds) if 0 <= milliseconds <= MAX_MILLISECONDS else None


def parse_time(text: str, now: datetime | None = None) -> datetime:
    """Parse the value of an option such as ``--since``.

    Args:
        text: RFC 3339 such as ``2026-01-31T12:00:00Z``, a date or date-time without an offset, which is UTC, an age
            such as ``90s``, ``15m``, ``2h`` or ``1d``, the same as ``now-2h``, or ``now``.
        now: Reference of an age; the current time by default.

    Returns:
        A datetime in UTC.

    Raises:
        ValueError: The text has none of these forms, or the year is out of range.

    Examples:
        >>> parse_time("2026-01-31T12:00:00+01:00").isoformat()
        '2026-01-31T11:00:00+00:00'
        >>> parse_time("now-2h", datetime(2026, 1, 31, 12, tzinfo=UTC)).isoformat()
        '2026-01-31T10:00:00+00:00'
    """
    now = now or datetime.now(UTC)
    if text == "now":
        return now
    try:
        if age := _DURATION.fullmatch(text.removeprefix("now-")):
            return now - timedelta(**{_UNITS[age[2]]: float(age[1])})
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is not a time: write 15m, 2h, 1d, now-2h or 2026-01-31T12:00:00Z") from None


def parse_duration(text: str) -> float:
    """Parse a duration such as ``90s``, ``15m``, ``6h``, ``30d`` or ``2w``, in seconds.

    Raises:
        ValueError: It has another form, or is too long for a `timedelta`.

    Examples:
        >>> parse_duration("1.5h")
        5400.0
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError("is no duration: write 90s, 15m, 6h, 30d or 2w")
    try:
        return timedelta(**{_UNITS[found[2]]: float(found[1])}).total_seconds()
    except OverflowError:
        raise ValueError("is too long a duration") from None

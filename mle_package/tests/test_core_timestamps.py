"""One parser of times for all commands."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.core.timestamps import (
    datetime_of_milliseconds,
    from_microseconds,
    parse_time,
    to_microseconds,
)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", NOW),
        ("90s", NOW - timedelta(seconds=90)),
        ("now-1.5h", NOW - timedelta(hours=1.5)),
        ("2w", NOW - timedelta(weeks=2)),
        ("2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T06:00", datetime(2026, 1, 1, 6, tzinfo=UTC)),
        ("2026-01-01T06:00:00+02:00", datetime(2026, 1, 1, 4, tzinfo=UTC)),
    ],
)
def test_an_age_or_a_date(text: str, moment: datetime) -> None:
    """A date-time without an offset is in UTC, on any machine."""
    found = parse_time(text, NOW)
    assert (found, found.tzinfo) == (moment, UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "1y", "now-", "now+1h", "99999999999d", "2026-13-01"])
def test_anything_else_is_an_error_with_examples(text: str) -> None:
    """Also an age before the year 1."""
    with pytest.raises(ValueError, match=r"is not a time: write 15m, 2h, 1d, now-2h or 2026"):
        parse_time(text, NOW)


@given(st.datetimes(timezones=st.just(UTC)))
def test_microseconds_are_exact(moment: datetime) -> None:
    """Over the whole calendar."""
    assert from_microseconds(to_microseconds(moment)) == moment


def test_a_naive_time_is_an_error() -> None:
    """It is no point in time."""
    with pytest.raises(ValueError, match="has no offset"):
        to_microseconds(datetime(2026, 1, 1))


@pytest.mark.parametrize(
    "milliseconds", [-1, -62_135_596_800_001, 253_402_300_800_000, 1_700_000_000_000_000, 2**63 - 1]
)
def test_what_is_no_time_in_milliseconds(milliseconds: int) -> None:
    """None at all, and microseconds."""
    assert datetime_of_milliseconds(milliseconds) is None


def test_milliseconds() -> None:
    """From the first to the last."""
    assert datetime_of_milliseconds(0) == datetime(1970, 1, 1, tzinfo=UTC)
    assert datetime_of_milliseconds(253_402_300_799_999) == datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)

"""Addresses, times and selections of dead letters."""

from datetime import UTC, datetime, timedelta

import pytest

from machine_learning_engineering.core.timestamps import parse_time
from machine_learning_engineering.dead_letters.letter import DeadLetterOrigin
from machine_learning_engineering.dead_letters.reader import Address, DeadLetter, Selection, parse_address

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
LETTER = DeadLetter(
    Address(2, 17),
    NOW,
    b"k",
    b"v",
    [],
    DeadLetterOrigin("malformed-request", "no", "decode", "requests", 0, 5, "titanic"),
)


def test_an_address_is_written_as_it_is_read() -> None:
    """PARTITION:OFFSET in both directions."""
    assert parse_address("2:17") == Address(2, 17)
    assert str(Address(2, 17)) == "2:17"


@pytest.mark.parametrize(
    "text", ["", "2", "2:", ":17", "-1:2", "2:17 ", "a:b", "9999999999:0", "0:9999999999999999999"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """The message says where to find one."""
    with pytest.raises(ValueError, match="dlq list"):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("15m", NOW - timedelta(minutes=15)),
        ("1.5h", NOW - timedelta(hours=1.5)),
        ("2d", NOW - timedelta(days=2)),
        ("2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T02:00:00+02:00", datetime(2026, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_time_is_an_age_or_rfc_3339(text: str, moment: datetime) -> None:
    """Both ways to say since when."""
    assert parse_time(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "15", "15 m", "-15m"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """With examples of what is one."""
    with pytest.raises(ValueError, match="15m"):
        parse_time(text, NOW)


@pytest.mark.parametrize(
    ("selection", "meant"),
    [
        (Selection(), True),
        (Selection(reason="malformed-request", model="titanic", stage="decode"), True),
        (Selection(reason="other"), False),
        (Selection(model="diamonds"), False),
        (Selection(stage="index"), False),
        (Selection(since=NOW), True),
        (Selection(until=NOW), False),
        (Selection(since=NOW + timedelta(seconds=1)), False),
        (Selection(addresses=frozenset([Address(2, 17)])), True),
        (Selection(addresses=frozenset([Address(2, 18)])), False),
    ],
)
def test_a_selection_holds_what_meets_all_of_it(selection: Selection, meant: bool) -> None:
    """Since is inclusive, until is not."""
    assert selection.holds(LETTER) is meant

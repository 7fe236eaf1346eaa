"""Which indices are over."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.documents.common import FAMILIES
from monitoring.indexer.retention import expired

TODAY = date(2026, 3, 31)


def test_the_days_before_the_retention_are_over() -> None:
    """The day that is exactly so old is kept."""
    names = [f"inference-{family}-2026.03.{day}" for family in FAMILIES for day in (20, 23, 24, 31)]
    assert sorted(expired(names, TODAY, 7)) == sorted(
        (f"inference-{family}-2026.03.{day}", family) for family in FAMILIES for day in (20, 23)
    )


@pytest.mark.parametrize(
    "name",
    [
        "inference-logs-2020.01.01-copy",
        "inference-logs-2020.1.1",
        "inference-logs-2020.02.30",
        "inference-logs-20200101",
        "inference-other-2020.01.01",
        "my-inference-logs-2020.01.01",
        ".ds-inference-logs-2020.01.01",
        "inference-logs-2020.01.01\n",
        "inference-logs-\u0662\u0660\u0662\u0660.01.01",
        "inference-logs-*",
    ],
)
def test_what_is_not_named_as_ours_is_never_over(name: str) -> None:
    """Somebody else's index, or a copy that was made by hand."""
    assert expired([name], TODAY, 1) == []


@given(st.dates(), st.dates(), st.integers(0, 10_000))
def test_never_too_early_and_never_without_being_asked(day: date, today: date, days: int) -> None:
    """An index is over if its whole day is further back than the retention."""
    name = f"inference-logs-{day.year:04}.{day.month:02}.{day.day:02}"
    over = days > 0 and today - day > timedelta(days=days)
    assert expired([name], today, days) == ([(name, "logs")] if over else [])

"""Shifts are parsed and applied."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.shift import Shift, parse_shift


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [("x=1.5", 2.0, 3.0), ("x=*-1", 2.0, -2.0), ("x=+2", 2.0, 4.0), ("x=-0.5", 2.0, 1.5), ("x=2", 3, 6)],
)
def test_a_shift_is_a_factor_or_a_delta(text: str, before: float, after: float) -> None:
    """A bare number or `*` multiplies, a sign adds."""
    features = {"x": before, "y": 1}
    parse_shift(text).apply(features)
    assert features == {"x": after, "y": 1}
    assert type(features["x"]) is type(before)


def test_a_null_stays_null() -> None:
    """A missing value has nothing to distort."""
    features = {"x": None}
    parse_shift("x=2").apply(features)
    assert features == {"x": None}


@pytest.mark.parametrize("text", ["x", "x=", "=2", "x=abc", "x=nan", "x=inf", "x=+", "x=++"])
def test_what_is_no_shift_is_refused_with_an_example(text: str) -> None:
    """The message shows how to write one."""
    with pytest.raises(ValueError, match=r"write field=1\.5"):
        parse_shift(text)


@pytest.mark.parametrize(
    ("features", "words"), [({"a": 1}, "no such feature; the features are a"), ({"x": "1"}, "not a number")]
)
def test_a_shift_that_does_not_fit_is_refused(features: dict[str, object], words: str) -> None:
    """A typing error must not pass for an experiment without effect."""
    with pytest.raises(ValueError, match=words):
        parse_shift("x=2").apply(features)


@given(st.floats(-1e6, 1e6), st.floats(-1e3, 1e3))
def test_what_is_written_is_what_is_parsed(value: float, number: float) -> None:
    """Factor and delta come back as the numbers that were written."""
    assert parse_shift(f"x=*{number!r}") == Shift("x", number, 0.0)
    sign = "-" if number < 0 else "+"
    features = {"x": value}
    parse_shift(f"x={sign}{abs(number)!r}").apply(features)
    assert features["x"] == value + number

"""Untrusted bytes, rendered for a terminal."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inflight.rendering import render, render_line


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "(null)"),
        (b"", "(empty)"),
        ('{"a": "ä"}'.encode(), '{"a": "ä"}'),
        (b"\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\u202eb".encode(), "a\\u202eb"),
    ],
)
def test_text_is_shown_as_text_with_control_characters_escaped(value: bytes | None, shown: str) -> None:
    """A dead letter can't colour, ring, clear or reverse the terminal."""
    assert render(value) == shown


def test_bytes_that_are_no_text_are_shown_as_a_hex_dump() -> None:
    """Offset, bytes, and what of them is printable."""
    assert render(b"\xff\x00AB") == f"00000000  {'ff 00 41 42':<47}  ..AB"


@pytest.mark.parametrize("value", ["ä".encode() * 5_000, b"\xff" * 5_000])
def test_a_long_value_is_cut_and_says_so(value: bytes) -> None:
    """4 KiB, even where that cuts a character in two."""
    assert render(b"a" + value).endswith(f"{len(value) + 1 - 4096:,} of {len(value) + 1:,} bytes omitted")


@given(st.binary(max_size=300))
def test_nothing_that_is_shown_can_steer_a_terminal(value: bytes) -> None:
    """No control or format character but line ends and tabs, whatever the bytes."""
    for text in (render(value), render_line(value.decode(errors="replace"))):
        assert all(c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") for c in text)


def test_a_line_is_one_line_of_bounded_length() -> None:
    """For tables."""
    assert render_line("a\nb") == "a\\nb"
    assert render_line("x" * 300) == "x" * 199 + "…"

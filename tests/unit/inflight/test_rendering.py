"""Untrusted bytes, rendered for a terminal."""

import contextlib
import io
import json
import unicodedata
from datetime import datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inflight.errors import print_error
from inflight.rendering import print_json, print_table, render, render_line, render_time
from machine_learning_engineering.core.timestamps import parse_time


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


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=100))
def test_json_that_is_printed_cannot_steer_a_terminal_and_says_the_same(text: str) -> None:
    """As JSON, C1 controls and characters that reverse the direction of text need no escape."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        print_json({"text": text + "\x9b31m\u202e\x7f\U000e0041"})
    [line, rest] = out.getvalue().split("\n")
    assert rest == ""
    assert not [one for one in line if unicodedata.category(one) in ("Cc", "Cf", "Cs")]
    assert json.loads(line) == {"text": text + "\x9b31m\u202e\x7f\U000e0041"}


def test_json_of_a_sender_is_one_line() -> None:
    """It may have line breaks between its values, and a carriage return would overwrite what stands there."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        print_json({"prediction": msgspec.Raw(b'{"a":\r\n\t1, "ae": "\xc3\xa4\xc2\x9b"}')})
    assert out.getvalue() == '{"prediction":{"a":   1, "ae": "ä\\u009b"}}\n'


def test_errors_cannot_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """They may quote what another program answered."""
    print_error("Kibana responded: \x1b[2J\x9b2J\u202e\nand more")
    assert capsys.readouterr().err == "error: Kibana responded: \\x1b[2J\\x9b2J\\u202e\nand more\n"


def test_a_table_is_whole_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is cut, also where words are longer than a column."""
    monkeypatch.setenv("COLUMNS", "80")
    prediction = json.dumps({"species": "setosa", "probability": 0.987654321, "others": list(range(10))})
    row = ("2026-01-31T12:00:00Z", "6f1c2a9e-5f0b-4d43-9d0e-0b8a3c1d2e3f", "diamonds", "v12", prediction)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        print_table(("completed at", "request id", "model", "version", "prediction"), [row])
    assert "…" not in out.getvalue()
    heading, *lines = out.getvalue().splitlines()
    assert max(map(len, [heading, *lines])) <= 80
    start = heading.index("prediction")
    shown = "".join(line[start:] for line in lines)
    assert shown.replace(" ", "") == prediction.replace(" ", "")


def test_times_are_utc_as_options_take_them() -> None:
    at = datetime(2026, 1, 31, 13, 0, 0, 123_456, tzinfo=timezone(timedelta(hours=1)))
    assert render_time(at) == "2026-01-31T12:00:00Z"
    assert parse_time(render_time(at, "microseconds")) == at


@given(st.binary(max_size=300))
def test_nothing_that_is_shown_can_steer_a_terminal(value: bytes) -> None:
    """No control or format character but line ends and tabs, whatever the bytes."""
    for text in (render(value), render_line(value.decode(errors="replace"))):
        assert all(c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") for c in text)


def test_a_line_is_one_line_of_bounded_length() -> None:
    """For tables."""
    assert render_line("a\nb") == "a\\nb"
    assert render_line("x" * 300) == "x" * 199 + "…"

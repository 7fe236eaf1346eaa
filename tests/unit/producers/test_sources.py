"""Requests read from CSV and JSON Lines."""

import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from producers.sources import BadLines, MalformedLine, Request, read_csv, read_jsonl, read_path


class Stone(msgspec.Struct):
    """Features of a model."""

    carat: float
    cut: str
    number: int = 0
    fresh: bool | None = None


def _csv(text: str | bytes, bad: BadLines | None = None, **options: Any) -> list[dict[str, object]]:
    data = text if isinstance(text, bytes) else text.encode()
    return [dict(request.features) for request in read_csv(io.BytesIO(data), bad or BadLines(strict=True), **options)]


def test_cells_get_the_type_that_they_read_as() -> None:
    """Integers, numbers, booleans, nulls and text, by their looks."""
    rows = _csv("a,b,c,d,e,f\n1,-2.5,True,,x,1e3\n")
    assert rows == [{"a": 1, "b": -2.5, "c": True, "d": None, "e": "x", "f": 1000.0}]
    assert [type(value) for value in rows[0].values()] == [int, float, bool, type(None), str, float]


@pytest.mark.parametrize("cell", ["007", "1_000", "nan", "inf", "1e999", " 5", "0x1f", "1,5", "A/5", "-"])
def test_what_is_no_plain_number_stays_text(cell: str) -> None:
    """Python's own notation, not-a-numbers and leading zeros are not taken for numbers."""
    assert _csv(f'a,b\n"{cell}",1\n') == [{"a": cell, "b": 1}]


def test_a_text_column_keeps_its_text() -> None:
    """Ticket 113803 and ticket A/5 are both text."""
    assert _csv("ticket\n113803\nA/5\n", text_fields=["ticket"]) == [{"ticket": "113803"}, {"ticket": "A/5"}]


def test_an_unknown_text_column_is_refused() -> None:
    """A typing error in --text names the columns that there are."""
    with pytest.raises(ValueError, match="no column tikcet; the columns are ticket"):
        _csv("ticket\n1\n", text_fields=["tikcet"])


def test_quoted_cells_may_hold_separators_and_line_ends() -> None:
    """CSV as spreadsheets write it, with a byte order mark."""
    assert _csv(b'\xef\xbb\xbfa,b\r\n"x, ""y""\nz",2\r\n') == [{"a": 'x, "y"\nz', "b": 2}]


def test_malformed_csv_lines_are_counted_with_their_number_and_the_rest_goes_on() -> None:
    """Too few cells, too many, broken quotes, bytes that are not UTF-8: the good rows still come."""
    seen: list[str] = []
    bad = BadLines(lambda line: seen.append(str(line)))
    rows = _csv(b'a,b\n1,2\n1\n1,2,3\n"x"y,2\n\xff,2\n\n3,4\n', bad)
    assert rows == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert bad.count == 4
    assert [text.split(":")[0] for text in seen] == ["line 3", "line 4", "line 5", "line 6"]


@pytest.mark.parametrize("text", ["", "a,a\n1,2\n"])
def test_a_csv_file_needs_a_header_with_distinct_names(text: str) -> None:
    """Without it nobody knows what the cells are."""
    with pytest.raises(ValueError, match="must name each feature once"):
        _csv(text)


def test_a_json_line_is_features_or_a_whole_request() -> None:
    """Whole requests keep their id, model and time."""
    lines = [
        b'{"carat": 0.3}\n',
        b'{"request_id": "r", "model": "m", "features": {"x": 1}, "requested_at": "2026-01-01T00:00:00Z"}\n',
        b'{"features": {"x": 1}}\n',
        b'{"features": 3, "carat": 1}\n',
    ]
    assert list(read_jsonl(lines, BadLines(strict=True))) == [
        Request(Raw(b'{"carat": 0.3}')),
        Request(Raw(b'{"x": 1}'), "m", "r", datetime(2026, 1, 1, tzinfo=UTC)),
        Request(Raw(b'{"x": 1}')),
        Request(Raw(b'{"features": 3, "carat": 1}')),
    ]


def test_malformed_json_lines_are_counted_with_their_number_and_the_rest_goes_on() -> None:
    """Broken JSON, a list, an id of the wrong type, bytes that are not text: the good lines still come."""
    numbers: list[int] = []
    bad = BadLines(lambda line: numbers.append(line.number))
    lines = [b'{"a": 1}', b"{", b"[1]", b"", b'{"features": {}, "request_id": 7}', b"\xff\xfe", b'{"a": 2}']
    assert [bytes(request.features) for request in read_jsonl(lines, bad)] == [b'{"a": 1}', b'{"a": 2}']
    assert numbers == [2, 3, 5, 6]


def test_strict_stops_at_the_first_malformed_line() -> None:
    """`--strict` is for pipelines that must not go on."""
    with pytest.raises(MalformedLine, match="line 2"):
        list(read_jsonl([b"{}", b"nonsense", b"{}"], BadLines(strict=True)))


def test_a_file_is_read_by_its_ending(tmp_path: Path) -> None:
    """.csv, .jsonl, and an error for anything else."""
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "a.jsonl").write_text('{"x": 1}\n')
    (tmp_path / "a.parquet").write_text("")
    assert list(read_path(tmp_path / "a.csv", BadLines())) == [Request({"x": 1})]
    assert list(read_path(tmp_path / "a.jsonl", BadLines())) == [Request(Raw(b'{"x": 1}'))]
    with pytest.raises(ValueError, match=r"neither \.csv nor \.jsonl"):
        list(read_path(tmp_path / "a.parquet", BadLines()))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("carat;cut\n0.3;Ideal\n", r"x\.CSV line 1: the columns are separated by a semicolon"),
        ("carat,cut,carat\n0.3,Ideal,9.9\n", r"x\.CSV line 1: .* must name each feature once, not 'carat' twice"),
        ("größe,cut\n0.3,Ideal\n".encode("latin-1"), r"x\.CSV line 1: not UTF-8, but probably Latin-1"),
        ("carat,cut\n".encode("utf-16"), r"x\.CSV line 1: not UTF-8, but UTF-16"),
        (",carat\n0,0.3\n", r"x\.CSV line 1: a column has no name"),
        (
            "Carat,Cut\n0.3,Ideal\n",
            r"x\.CSV line 1: none of the columns Carat, Cut is a feature .* upper and lower case",
        ),
        ("0.3,Ideal\n0.4,Good\n", r"x\.CSV line 1: none of the columns .* seems to be data, add a header"),
    ],
)
def test_a_file_of_which_nothing_can_be_used_is_refused_with_name_line_and_cause(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    """At once: not one request of it would be answered."""
    path = tmp_path / "x.CSV"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        list(read_path(path, BadLines(), features=Stone))


def test_the_fields_of_a_known_model_decide_the_types_of_cells() -> None:
    """A ticket number is text without being named, and an empty cell of a field that takes no null is left out."""
    rows = _csv("carat,cut,number,fresh\n1,113803,3.0,True\n.5,007,,0\n", features=Stone)
    assert rows == [
        {"carat": 1, "cut": "113803", "number": 3.0, "fresh": True},
        {"carat": 0.5, "cut": "007", "fresh": False},
    ]


@given(st.binary(max_size=200))
def test_no_bytes_break_the_readers(data: bytes) -> None:
    """Whatever comes in, lines are requests that can be encoded or are counted as malformed."""
    bad = BadLines()
    for request in read_jsonl(io.BytesIO(data), bad):
        assert bytes(request.features).startswith(b"{")
    for request in read_csv(io.BytesIO(b"a,b\n" + data), bad):
        assert msgspec.json.decode(msgspec.json.encode(request.features)).keys() == {"a", "b"}

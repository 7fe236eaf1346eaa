"""Dead letters: the record comes back as it was, and nobody but us names its origin."""

from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.dead_letters.letter import (
    MAX_LETTER_BYTES,
    DeadLetterOrigin,
    dead_letter,
    dead_letter_headers,
    read_origin,
    without_origin,
)

ORIGIN = DeadLetterOrigin("not_json", "no JSON", "decode", "prediction-requests", 3, 17)
NAMES = st.sampled_from([f"dlq_{field}" for field in DeadLetterOrigin._fields] + ["dlq_attempts", "a", ""])
HEADERS = st.lists(st.tuples(NAMES, st.none() | st.binary(max_size=8)), max_size=12)


@given(HEADERS)
def test_the_headers_of_a_record_come_back_unchanged(headers: list[tuple[str, bytes | None]]) -> None:
    """Null values, and names like ours; and the origin is ours, without what the record says of it."""
    found = dead_letter_headers(ORIGIN, headers)
    assert without_origin(found) == headers
    assert read_origin(found) == ORIGIN


@given(HEADERS)
def test_a_dead_letter_of_a_dead_letter_comes_back_unchanged(headers: list[tuple[str, bytes | None]]) -> None:
    """Layer by layer."""
    first = dead_letter_headers(ORIGIN, headers)
    second = dead_letter_headers(ORIGIN._replace(reason="again", model="m"), first)
    assert read_origin(second).reason == "again"
    assert without_origin(second) == first


def test_a_cut_record_says_so() -> None:
    """With the size of the whole, for programs too."""
    key, value, headers = dead_letter(ORIGIN, b"k", b"x" * MAX_LETTER_BYTES, [("null", None), ("a", b"1")])
    origin = read_origin(headers)
    assert origin.truncated is not None
    assert origin.truncated > MAX_LETTER_BYTES > len(value or b"")
    assert (key, without_origin(headers)) == (b"k", [("null", None), ("a", b"1")])
    _, _, whole = dead_letter(ORIGIN, b"k", b"x", [])
    assert read_origin(whole).truncated is None

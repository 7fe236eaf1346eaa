"""From records of an existing topic to requests: paths, types, defaults, ids and times."""

import json
import math
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from machine_learning_engineering.declaration.mapping import SourceMapping, UnmappedRecord
from machine_learning_engineering.declaration.paths import parse_path
from machine_learning_engineering.declaration.reading import InvalidDeclaration, parse_declaration

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
# Without what JSON escapes; and numbers are places in arrays.
NAMES = TEXTS.filter(lambda name: re.fullmatch(r"\d+|-|.*[\"\\\x00-\x1f\x7f].*|", name, re.DOTALL) is None)
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | TEXTS
JSON = st.recursive(
    SCALARS | st.floats(allow_infinity=False, allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def mapping(
    features: str = 'o = { type = "text", missing = "ok" }', source: str = "", result: str = ""
) -> SourceMapping:
    text = f"""
[model]
name = "m"
answer = {{ y = "predict" }}
[source]
topic = "orders"
{source}
[features]
{features}
[result]
{result}
"""
    return SourceMapping(parse_declaration(text.encode()))


def read(features: str, event: Any, **more: str) -> Any:
    """The features of an event, or why they are refused."""
    value = event if isinstance(event, bytes) else json.dumps(event).encode()
    found = mapping(features, **more).read(value, topic="orders")
    return found.refusal or json.loads(bytes(found.features))


def pointer(path: tuple[str, ...]) -> str:
    return "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in path)


def walk(event: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(event, dict) or name not in event:
            return None
        event = event[name]
    return event


@given(st.dictionaries(NAMES, st.dictionaries(NAMES, SCALARS, max_size=3) | SCALARS, max_size=4), st.data())
def test_whatever_the_names_are_a_pointer_finds_what_a_walk_finds(event: dict[str, Any], data: st.DataObject) -> None:
    """In events with any names, and with null, other types or nothing on the way."""
    paths = [(name,) for name in event] + [
        (name, inner) for name, child in event.items() if isinstance(child, dict) for inner in child
    ]
    path = data.draw(st.sampled_from(paths) if paths else st.just(("a",))) if paths else ("absent", "inner")
    wanted = walk(event, path)
    toml = f'f = {{ from = {json.dumps(pointer(path), ensure_ascii=False)}, type = "text", missing = "ok" }}'
    try:
        value = json.dumps(event, allow_nan=False).encode()
    except ValueError:
        return
    found = mapping(toml).read(value)
    if found.refusal:
        assert not isinstance(walk(event, path[:1]), dict)
    else:
        assert json.loads(bytes(found.features)) == {"f": wanted}


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_request_a_refusal_or_an_unmapped_record(value: bytes) -> None:
    one = mapping('a = { from = "x.a", type = "float" }\nb = { type = "int", default = 3 }', 'request_id = "id"')
    try:
        found = one.read(value)
    except UnmappedRecord as error:
        reason = error.reason
        assert reason in ("not_json", "not_utf8", "invalid_request")
    else:
        assert 1 <= len(found.request_id) <= 256
        made = json.loads(bytes(found.features))
        assert set(made) == {"a", "b"} or found.refusal


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**62), 2**62), TEXTS, st.booleans())
def test_values_arrive_unchanged(real: float, whole: int, text: str, flag: bool) -> None:
    toml = 'r = { type = "float" }\nw = { type = "int" }\nt = { type = "text" }\nf = { type = "bool" }'
    event = {"r": real, "w": whole, "t": text, "f": flag, "other": [text]}
    assert read(toml, event) == {"r": real, "w": whole, "t": text, "f": flag}


@pytest.mark.parametrize(
    ("feature", "value", "made"),
    [
        ('type = "int"', b"2.0", 2),
        ('type = "int"', b"-2.0", -2),
        ('type = "int"', b"2e3", 2000),
        ('type = "int"', b"2.5", 2.5),
        ('type = "int"', b"9007199254740993.0", 9007199254740992),
        ('type = "int"', b"1e400", math.inf),
        ('type = "float"', b"2", 2),
        ('type = "float"', b'"12.50"', "12.50"),
        ('type = "float", numbers_as_text = true', b'"12.50"', 12.5),
        ('type = "float", numbers_as_text = true', b'" +1E+3 "', 1000.0),
        ('type = "int", numbers_as_text = true', b'"12.0"', 12),
        ('type = "float", numbers_as_text = true', b"12.5", 12.5),
        ('type = "float", missing = "ok"', b"null", None),
        ('type = "float", default = 1.5', b"null", 1.5),
        ('type = "text", default = "none"', b"null", "none"),
        ('type = "bool", constant = true', b"7", True),
        ('type = "text", constant = "100 %b"', b"7", "100 %b"),
    ],
)
def test_types_defaults_and_constants(feature: str, value: bytes, made: Any) -> None:
    """What does not fit is left to the model, which says what it takes."""
    assert read(f"f = {{ {feature} }}", b'{"f":' + value + b"}") == {"f": made}


@pytest.mark.parametrize("text", [b'"12,50"', b'"0x1"', b'"nan"', b'""', b'"1_000"', b'"\\u0661"'])
def test_a_text_that_is_no_number_is_refused(text: bytes) -> None:
    found = read('f = { from = "a", type = "float", numbers_as_text = true }', b'{"a":' + text + b"}")
    assert found == "feature `f`: `a` must be a number, or the text of one such as 12.50"


@pytest.mark.parametrize("event", [{}, {"a": None}, {"a": {}}, {"a": {"b": None}}, {"a": 5}, {"a": [1]}])
def test_what_is_missing_is_refused_by_its_path(event: Any) -> None:
    found = read('f = { from = "a.b", type = "float" }', event)
    assert found.startswith("feature `f`")
    assert "`a" in found


def test_an_absent_object_is_like_an_absent_field() -> None:
    toml = 'f = { from = "a.b", type = "float", default = 2.5 }\ng = { from = "c", type = "int" }'
    assert (
        read(toml, {"c": 1}) == read(toml, {"a": None, "c": 1}) == read(toml, {"a": {}, "c": 1}) == {"f": 2.5, "g": 1}
    )


def test_names_with_dots_need_a_pointer() -> None:
    event = {"order.id": {"a/b": 1, "~": 2}, "order": {"id": 3}}
    toml = 'f = { from = "/order.id/a~1b", type = "int" }\ng = { from = "order.id", type = "int" }'
    assert read(toml, event) == {"f": 1, "g": 3}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("items[0].price", "an element of an array"),
        ("items.0.price", "an element of an array"),
        ("/items/-", "an element of an array"),
        ("a..b", "an empty name"),
        ("/", "an empty name"),
        ("", "an empty name"),
        ("/a~2", "write ~0 for a tilde"),
        ("a\n.b", "a control character"),
        ('/a"b', "a quote"),
        (".".join("a" * 33), "33 names"),
    ],
)
def test_paths_that_can_not_be_read_are_refused_when_they_are_declared(text: str, names: str) -> None:
    with pytest.raises(InvalidDeclaration, match=f"^here: .*{names}"):
        parse_path(text, "here")


@pytest.mark.parametrize(
    ("declared", "made"),
    [
        ("{topic}-{partition}-{offset}", "orders-3-17"),
        ("key", "k7"),
        ("header:id", "last"),
        ("order.id", "o1"),
        ("order.id@n", "o1@5"),
        ("/key", "a field"),
    ],
)
def test_request_ids(declared: str, made: str) -> None:
    event = b'{"order":{"id":"o1"},"n":5,"key":"a field"}'
    headers = [("id", b"first"), ("id", b"last"), ("other", None)]
    found = mapping(source=f'request_id = "{declared}"').read(event, b"k7", headers, "orders", 3, 17)
    assert found.request_id == made


@pytest.mark.parametrize(
    ("declared", "names"),
    [
        ("{topic}-{partition}", "the same for several records"),
        ("{partition}-{offset}-{time}", "between braces"),
        ("{partition}-{offset", "between braces"),
        ("header:", "name of a header"),
        ("ids[0]", "array"),
        ("", "empty name"),
    ],
)
def test_request_ids_that_can_not_be_made(declared: str, names: str) -> None:
    with pytest.raises(InvalidDeclaration, match=rf"source\.request_id: .*{names}"):
        mapping(source=f'request_id = "{declared}"')


@pytest.mark.parametrize(
    ("declared", "key", "headers", "names"),
    [
        ("key", None, [], "the record's key is missing or null"),
        ("key", b"\xff", [], "the record's key is not UTF-8"),
        ("key", b"", [], "0 characters"),
        ("header:id", None, [("id", None)], "the header `id` is missing or null"),
        ("order.id", None, [], "no field `order.id`"),
        ("n", None, [], "must be a string or an integer"),
        ("n.x", None, [], "field `n` must be an object, not a number"),
    ],
)
def test_records_without_an_id(declared: str, key: Any, headers: Any, names: str) -> None:
    with pytest.raises(UnmappedRecord, match=names) as caught:
        mapping(source=f'request_id = "{declared}"').read(b'{"n":1.5}', key, headers)
    assert caught.value.reason == "invalid_request"


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ('"2023-11-14T22:13:20Z"', 1_700_000_000.0),
        ('"2023-11-14T23:13:20.5+01:00"', 1_700_000_000.5),
        ("1700000000", 1_700_000_000.0),
        ("1700000000.25", 1_700_000_000.25),
        ("1700000000000", 1_700_000_000.0),
        ("1700000000123", 1_700_000_000.123),
    ],
)
def test_times(value: str, seconds: float) -> None:
    found = mapping(source='requested_at = "ts"').read(f'{{"ts":{value}}}'.encode())
    assert found.requested_at == datetime.fromtimestamp(seconds, UTC)


def test_an_event_without_its_time_has_that_of_the_record() -> None:
    one = mapping(source='requested_at = "a.ts"')
    assert one.read(b"{}").requested_at is one.read(b'{"a":{"ts":null}}').requested_at is UNSET


@pytest.mark.parametrize(
    "value", ['"yesterday"', '"2026-01-01T00:00:00"', "-1", "true", "[]", "1e300", '"9999999999999"']
)
def test_wrong_times(value: str) -> None:
    with pytest.raises(UnmappedRecord, match="requested_at: field `ts` must be RFC 3339") as caught:
        mapping(source='requested_at = "ts"\nrequest_id = "id"').read(f'{{"id":"r","ts":{value}}}'.encode())
    assert caught.value.request_id == "r"


def test_included_fields() -> None:
    one = mapping(result='include = ["order.id", "100%", "/a.b"]')
    found = one.read('{"order":{"id":"é"},"100%":[1, 2],"n":1}'.encode())
    assert found.included == '{"order.id":"é","100%":[1, 2],"/a.b":null}'.encode()


def test_unknown_fields() -> None:
    one = mapping('f = { from = "a.b", type = "int" }')
    event = b'{"a":{"b":{"x":1},"c":2},"d":{"e":1},"a value with blanks":1}'
    assert one.unknown_fields(event) == ["a.c", "d", "…"]
    assert one.unknown_fields(b"\xff") == one.unknown_fields(b"[1]") == []
    refusing = mapping('f = { from = "a.b", type = "int" }', 'unknown_fields = "refuse"')
    assert refusing.read(event).refusal == "field `a.c` is unknown, and source.unknown_fields is refuse"
    assert refusing.read(b'{"a":{"b":1}}').refusal == ""


@pytest.mark.parametrize(
    ("features", "names"),
    [
        ('f = { type = "float", default = nan }', r"features\.f\.default: must be a finite number"),
        ('f = { type = "float", constant = inf }', r"features\.f\.constant: must be a finite number"),
        ('f = { from = "a[0]", type = "float" }', r"features\.f\.from: .*array"),
        (
            'f = { from = "a", type = "int" }\ng = { from = "a.b", type = "int" }',
            "field `a` is read as a value, and as",
        ),
        (
            'f = { from = "a.b", type = "int" }\ng = { from = "a", type = "int" }',
            "field `a` is read as a value, and as",
        ),
    ],
)
def test_features_that_can_not_be_read(features: str, names: str) -> None:
    with pytest.raises(InvalidDeclaration, match=names):
        mapping(features)


def test_two_features_may_come_from_one_field() -> None:
    toml = 'f = { from = "a", type = "int" }\ng = { from = "a", type = "float" }'
    assert read(toml, {"a": 3}, source='request_id = "a"', result='include = ["a"]') == {"f": 3, "g": 3}


def test_the_last_of_two_equal_names_counts() -> None:
    assert read('f = { from = "a.b", type = "int" }', b'{"a":{"b":1},"a":{"b":2,"b":3}}') == {"f": 3}


def test_a_declaration_without_a_source_maps_nothing() -> None:
    text = b'[model]\nname = "m"\nanswer = { y = "predict" }\n[features]\nf = { type = "int" }\n'
    with pytest.raises(InvalidDeclaration, match="source: missing"):
        SourceMapping(parse_declaration(text))

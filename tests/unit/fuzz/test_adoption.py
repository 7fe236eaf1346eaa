"""Declarations that people and buckets hand in, expressions in them, and events of a topic that belongs to others."""

import warnings

import hypothesis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.adoption.matching import find_fields, match_features
from machine_learning_engineering.adoption.model import AdoptedModel, class_from_toml
from machine_learning_engineering.core.validation import InvalidFeatures
from machine_learning_engineering.declaration.mapping import SourceMapping, UnmappedRecord
from machine_learning_engineering.declaration.reading import InvalidDeclaration
from tests.support.fuzzing import SECRET, bounded, check_message, dose, mutated

_K = "mle_package/machine_learning_engineering/"
DOORS = (
    _K + "declaration/tables.py:parse",
    _K + "declaration/tables.py:section",
    _K + "declaration/tables.py:_member",
    _K + "declaration/mapping.py:SourceMapping.read",
    _K + "adoption/expressions.py:compile_answer",
    _K + "adoption/matching.py:find_fields",
    _K + "adoption/matching.py:_parse_time",
    _K + "adoption/model.py:AdoptedModel._tolerated",
)
DECLARATION = b"""[model]
name = "fraud"
classes = ["no", "yes"]
answer = { probability = 'predict_proba["yes"]', fraud = "probability >= 0.5 or not (predict == 'no')" }
[source]
topic = "orders"
request_id = "order.id"
[features]
amount = { from = "order.amount", type = "float", ge = 0, range = [1, 10], numbers_as_text = true }
items = { type = "int", le = 9, default = 1 }
"pay ment" = { type = "text", known = ["card", "cash"], missing = "ok" }
coupon = { type = "bool" }
[result]
include = ["order.id"]
"""
REQUESTS = (
    msgspec.json.encode({"amount": 2.5, "items": 3, "pay ment": SECRET, "coupon": True}),
    msgspec.json.encode({"amount": "12.50", "items": 3.0, "pay ment": None, "coupon": False, "more": SECRET}),
)
EVENTS = (
    msgspec.json.encode(
        {
            "order": {"id": "o-1", "amount": 2.5, "items": 3, "payMent": SECRET},
            "coupon": True,
            "ts": "2026-01-01T00:00:00Z",
        }
    ),
    msgspec.json.encode({"order": {"id": "o-2", "amount": "2.5"}, "items": None, "coupon": 1, "ts": 1_790_000_000}),
)
FRAUD = class_from_toml(DECLARATION)


@dose(60)
@given(content=mutated([DECLARATION]))
@hypothesis.example(content=b"a = " + b"[" * 20_000)
@hypothesis.example(content=DECLARATION.replace(b"ge = 0", b"ge = 0x" + b"f" * 6_000))
@hypothesis.example(content=DECLARATION.replace(b"probability >=", b"(" * 200 + b"probability >="))
def test_a_declaration_makes_a_class_or_is_refused(content: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            made = class_from_toml(content, "fraud.toml")
        except InvalidDeclaration as error:
            assert str(error).startswith("fraud.toml")
            assert len(str(error)) < 3_000
            return
    assert issubclass(made, AdoptedModel)
    assert msgspec.json.encode(made.schema())


@dose(60)
@given(raw=mutated(REQUESTS))
@hypothesis.example(raw=b"[" * 20_000)
@hypothesis.example(raw=b'{"amount":"' + b"9" * 5_000 + b'"}')
def test_features_are_decoded_or_refused_without_their_values(raw: bytes) -> None:
    model = FRAUD()
    with bounded(len(raw) * 4):
        try:
            row = model.decode(raw)
        except InvalidFeatures as error:
            check_message(str(error))
            return
    assert isinstance(row, FRAUD.Features)


@dose(60)
@given(values=st.lists(st.one_of(st.none(), mutated(EVENTS)), max_size=4))
@hypothesis.example(values=[b'{"a":' * 5_000 + b"1" + b"}" * 5_000])
@hypothesis.example(values=[b"{" + b",".join(b'"%d":1' % number for number in range(5_000)) + b"}"])
def test_events_of_others_are_looked_at_or_passed_over(values: list[bytes | None]) -> None:
    with bounded(sum(map(len, filter(None, values))) * 8 + 10_000):
        fields = find_fields((b"o-1", value) for value in values)
        matches = match_features(FRAUD.declared.features, fields)
    assert fields.events <= len(values)
    assert matches.keys() == FRAUD.declared.features.keys()


@dose(40)
@given(value=mutated(EVENTS))
def test_an_event_is_mapped_or_refused(value: bytes) -> None:
    mapping = SourceMapping(FRAUD.declared)
    try:
        mapped = mapping.read(value, b"k", [], "orders", 0, 1)
    except UnmappedRecord as error:
        check_message(str(error))
        return
    if not mapped.refusal:
        assert msgspec.json.decode(mapped.features).keys() <= FRAUD.declared.features.keys()


def test_the_declaration_of_the_corpus_is_good() -> None:
    assert FRAUD().decode(REQUESTS[1]) == FRAUD().decode(b'{"amount":12.5,"items":3,"coupon":false}')
    with pytest.raises(InvalidFeatures, match="`amount`"):
        FRAUD().decode(b'{"amount":"12,50","items":3,"coupon":false}')

"""Bad declarations: each error names the file, the line, the field and the fix."""
# ruff: noqa: E501

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.adoption.model import class_from_toml
from machine_learning_engineering.adoption.writing import write_declaration
from machine_learning_engineering.declaration.reading import InvalidDeclaration, parse_declaration
from machine_learning_engineering.declaration.schema import (
    Declaration,
    FeatureDeclaration,
    ModelDeclaration,
    ResultDeclaration,
    SourceDeclaration,
)

GOOD = """# A comment
[model]
name = "fraud"
label = "is_fraud"
classes = ["no", "yes"]
answer = { probability = 'predict_proba["yes"]', fraud = "probability >= 0.5" }

[source]
topic = "orders"
request_id = "order.id"

[features]
amount = { from = "order.amount", type = "float", ge = 0, range = [1, 10] }
items = { type = "int", le = 9, numbers_as_text = true }

"pay ment" = { type = "text", known = ["card", "cash"], others = "refuse" }

[features.coupon]
type = "bool"
missing = "ok"

[result]
include = ["order.id"]
"""


def refusal(before: str, after: str) -> str:
    """Why the declaration can't be used in which a text is replaced."""
    assert before in GOOD
    with pytest.raises(InvalidDeclaration) as refused:
        class_from_toml(GOOD.replace(before, after, 1).encode(), "fraud.toml")
    return str(refused.value)


def test_a_good_one_is_read() -> None:
    declaration = parse_declaration(GOOD.encode())
    assert list(declaration.features) == ["amount", "items", "pay ment", "coupon"]
    assert declaration.features["pay ment"].known == ("card", "cash")
    assert class_from_toml(GOOD.encode()).primary_metric == "roc_auc"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('name = "fraud"', 'nmae = "fraud"', "line 3: model.nmae: there is no such field: did you mean `name`?"),
        ('name = "fraud"', "", "line 2: model.name: is missing: it must be a text"),
        ('"fraud"', '"Fraud!"', "line 3: model.name: must be 1 to 128 of a-z, 0-9"),
        ('"fraud"', "3", "line 3: model.name: must be a text, not 3"),
        ("[model]", "[modle]", "line 2: modle: a declaration has no table of this name: did you mean `model`?"),
        ("[features]\n", "", "line 12: source.amount: there is no such field"),
        ("probability >= 0.5", "probabilty >= 0.5", "line 6: model.answer.fraud: `probabilty >= 0.5`, position 1:"),
        ('["yes"]', '["yse"]', "line 6: model.answer.probability:"),
        ('["no", "yes"]', '["no", "no"]', "line 5: model.classes: must be different values of one type"),
        ('["no", "yes"]', '["no"]', "line 5: model.classes: must be at least two"),
        ('"is_fraud"', '"amount"', "line 4: model.label: `amount` is a feature as well"),
        ('"float"', '"flaot"', 'line 13: features.amount.type: must be one of "bool", "float", "int", "text", not "flaot"'),
        ("ge = 0", 'ge = "a"', 'line 13: features.amount.ge: must be a number, not "a"'),
        ("ge = 0", "ge = nan", "line 13: features.amount.ge: must be a finite number"),
        ("ge = 0", "ge = 5, lt = 5", "line 13: features.amount.lt: no number is at least 5 and below 5"),
        ("ge = 0", "ge = 5, gt = 4", "line 13: features.amount.gt: `ge` is there as well"),
        ("range = [1, 10]", "range = [10, 1]", "line 13: features.amount.range: must be the least and the greatest"),
        ("range = [1, 10]", "range = [1]", "line 13: features.amount.range: must be a list of 2"),
        ("order.amount", "order..amount", "line 13: features.amount.from: is no path"),
        ('"order.amount"', '"???"', "line 13: features.amount.from: is not decided yet"),
        ("le = 9", "le = 9.5", "line 14: features.items.le: must be a whole number"),
        ("le = 9", "le = 9, default = 10", "line 14: features.items.default: must be at most 9, as `le` says"),
        ("le = 9", "default = 1.5", "line 14: features.items.default: must be an integer, as the feature is"),
        ("le = 9", "constant = 1, default = 2", "line 14: features.items.constant: every request has this value"),
        ("le = 9", "mising = 1", "line 14: features.items.mising: there is no such field: did you mean `missing`?"),
        ('others = "refuse"', "ge = 1", "line 16: features.pay ment.ge: is a limit for numbers, and the feature is text"),
        ('known = ["card", "cash"], ', "", 'line 16: features.pay ment.others: "refuse" needs `known`'),
        ('["card", "cash"]', '["card", 3]', "line 16: features.pay ment.known: must be a text"),
        ('type = "bool"', 'type = "bool"\nnumbers_as_text = true', "line 20: features.coupon.numbers_as_text: is for numbers"),
        ('missing = "ok"', "missing = true", 'line 20: features.coupon.missing: must be one of "ok", "refuse", not true'),
        ('topic = "orders"', 'topic = ""', "line 9: source.topic: is empty"),
        ('topic = "orders"', 'topic = "orders"\nregistry = "http://x"', "line 10: source.registry: is for framed formats"),
        ('["order.id"]', '["order.id", "order.id"]', "line 23: result.include: names order.id twice"),
        ("[result]", "[result", "is not TOML:"),
        ("# A comment", "\x00", "is not TOML:"),
    ],
)  # fmt: skip
def test_line_field_and_fix(before: str, after: str, said: str) -> None:
    message = refusal(before, after)
    assert message.startswith("fraud.toml")
    assert said in message


def test_not_utf8_and_too_large() -> None:
    with pytest.raises(InvalidDeclaration, match="byte 3 is not UTF-8"):
        parse_declaration(b"a=1\xff")
    with pytest.raises(InvalidDeclaration, match="at most 1,048,576"):
        parse_declaration(b"#" * 2**20 + b"\n")


_SCALARS: Any = st.one_of(
    st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.none().map(lambda _: "integer")
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
)
_NAMES = st.sampled_from(
    ["name", "answer", "label", "classes", "inputs", "type", "from", "missing", "default", "constant", "ge", "gt", "le",
     "lt", "range", "known", "others", "numbers_as_text", "topic", "format", "request_id", "include", "redact"]
)  # fmt: skip


@given(st.sampled_from(["model", "source", "result", "features", "amount"]), _NAMES, _VALUES)
def test_any_value_in_any_field_is_read_or_refused_by_name(table: str, name: str, value: Any) -> None:
    from machine_learning_engineering.adoption.writing import toml_value

    key = f"features.amount.{name}" if table == "amount" else f"{table}.{name}"
    text = (
        'model.name = "m"\nmodel.answer = { p = "predict" }\nfeatures.amount.type = "float"\n'
        f"{key} = {toml_value(value)}\n"
    )
    message = ""
    try:
        class_from_toml(text.encode(), "m.toml")
    except InvalidDeclaration as error:
        message = str(error)
    assert message == "" or (message.startswith("m.toml") and len(message) < 3_000)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with pytest.raises(InvalidDeclaration):
        parse_declaration(content)


_TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
_PATHS = st.lists(st.sampled_from(["order", "a-b", "Übung", "x y"]), min_size=1, max_size=3).map(".".join)
_FEATURES = st.one_of(
    st.builds(
        FeatureDeclaration,
        type=st.just("float"),
        from_=_PATHS,
        missing=st.sampled_from(["ok", "refuse"]),
        ge=st.floats(-1e9, 0),
        le=st.floats(1, 1e300),
        range=st.tuples(st.floats(-1e300, 0), st.floats(0, 1e300)),
        numbers_as_text=st.booleans(),
        example=st.floats(allow_nan=False, allow_infinity=False),
    ),
    st.builds(FeatureDeclaration, type=st.just("int"), default=st.integers(-(2**53), 2**53)),
    st.builds(FeatureDeclaration, type=st.just("text"), known=st.lists(_TEXT, unique=True, max_size=4).map(tuple), example=_TEXT),
    st.builds(FeatureDeclaration, type=st.just("bool"), constant=st.booleans()),
)  # fmt: skip
_FEATURE_NAMES = st.text(
    st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), min_size=1, max_size=10
).filter(lambda name: name != "label" and name.isprintable())


@given(
    st.dictionaries(_FEATURE_NAMES, _FEATURES, min_size=1, max_size=4),
    st.one_of(st.none(), st.builds(SourceDeclaration, topic=st.just("t"), requested_at=_PATHS)),
    _TEXT,
)
def test_what_is_written_is_read(features: Any, source: Any, note: str) -> None:
    """Whatever the names and values, and whatever a comment says."""
    model = ModelDeclaration("m", {"it": "predict"}, classes=("a", "b"))
    declaration = Declaration(model, features, source, ResultDeclaration(include=("order.id",)))
    text = write_declaration(declaration, dict.fromkeys(features, note), [note])
    assert parse_declaration(text.encode()) == declaration

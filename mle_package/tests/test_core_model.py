"""The contract of a model: what is not written says so, and bad features are named."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.core.model import MethodNotImplemented
from machine_learning_engineering.core.validation import InvalidFeatures
from machine_learning_engineering.sdk import MLEModel


def encode_loosely(text: str) -> bytes:
    """As UTF-8 with lone surrogates, which is not UTF-8."""
    return text.encode("utf-8", "surrogatepass")


class Unwritten(MLEModel):
    """A model whose author has set its attributes and written no method."""

    name = "unwritten"
    Features = msgspec.defstruct("Features", [("a", float)], frozen=True, forbid_unknown_fields=True)
    Prediction = msgspec.defstruct("Prediction", [("b", float)], frozen=True)
    primary_metric = "r2"


@pytest.mark.parametrize(
    ("call", "method", "answer"),
    [
        (lambda model: model.examples(), "examples", "Example"),
        (lambda model: model.new_estimator(1), "new_estimator", "estimator"),
        (lambda model: model.build_inputs([]), "build_inputs", "array"),
        (lambda model: model.predict([]), "predict", "Prediction"),
        (lambda model: model.evaluate([], []), "evaluate", "metric"),
        (lambda model: model.fit([], [], seed=1), "new_estimator", "estimator"),
        (lambda model: model.example_requests(), "examples", "Example"),
    ],
)
def test_an_unwritten_method_names_the_class_itself_and_its_answer(call, method, answer):
    with pytest.raises(MethodNotImplemented, match=rf"^Unwritten\.{method}\(\) is not written yet.*{answer}"):
        call(Unwritten())


@pytest.mark.parametrize("attribute", ["name", "Features", "Prediction", "primary_metric"])
def test_a_missing_attribute_is_named_when_the_model_is_made(attribute):
    given_ones = {
        key: getattr(Unwritten, key) for key in ("name", "Features", "Prediction", "primary_metric") if key != attribute
    }
    with pytest.raises(MethodNotImplemented, match=rf"^Partial\.{attribute} is not set"):
        type("Partial", (MLEModel,), given_ones)()


def test_the_basic_model_answers_each_row_in_order(doubler):
    rows = [doubler.decode(raw) for raw in (b'{"number": 3}', b'{"number": 5, "unit": "km", "note": null}')]
    assert [answer.double for answer in doubler.predict(rows)] == pytest.approx([6, 10])


HUGE = b"9" * 5_000
DEEP = b"[" * 20_000 + b"]" * 20_000


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"{}", "feature `number` is missing: it must be a number of at least 0 and at most 100"),
        (b'{"number":1,"colour":2}', "feature `colour` is unknown to the model `doubler`, which takes number, unit"),
        (b'{"number":"1"}', "feature `number` must be a number of at least 0 and at most 100, not a string"),
        (b'{"number":true}', "feature `number` must be .*, not true or false"),
        (b'{"number":null}', "feature `number` must be .*, not null"),
        (b'{"number":[1]}', "feature `number` must be .*, not an array"),
        (b'{"number":{"a":1}}', "feature `number` must be .*, not an object"),
        (b'{"number":-1}', "feature `number` must be a number of at least 0"),
        (b'{"number":NaN}', "feature `number` must be a finite number"),
        (b'{"number":Infinity}', "feature `number` must be a finite number"),
        (b'{"number":-Infinity}', "feature `number` must be a finite number"),
        (b'{"number":1e999}', "feature `number` .* too large"),
        (b'{"number":' + HUGE + b"}", "feature `number` .* too large"),
        (b'{"number":1,"count":' + HUGE + b"}", "feature `count` .* too large"),
        (
            b'{"number":1,"count":' + b"9" * 30 + b"}",
            "feature `count` must be an integer of at least 0 and at most 9",
        ),
        (b'{"number":1,"count":1.5}', "feature `count` must be an integer .* or null, not a decimal number"),
        (b'{"number":1,"unit":"mile"}', "feature `unit` must be one of km, m"),
        (b'{"number":1,"unit":null}', "feature `unit` must be one of km, m, not null"),
        (b'{"number":1,"note":"too long"}', "feature `note` must be a string of at most 5 characters or null"),
        (b'{"number":1,"note":"\xff"}', "feature `note` is not valid UTF-8"),
        (b'{"number":1,"note":"\\ud800"}', "feature `note` is not valid UTF-8"),
        (b'{"number":1,"\xff":1}', "feature `…` is not valid UTF-8"),
        (b'{"number":' + DEEP + b"}", "feature `number` must be .*, not an array"),
        (b'{"deep":' + DEEP + b"}", "feature `deep` is unknown|nested too deeply"),
        (b"", "features of `doubler` are not JSON"),
        (b"{", "features of `doubler` are not JSON"),
        (b'{"number":01}', "features of `doubler` are not JSON: .*byte 11"),
        ('{"number":1}'.encode("utf-16"), "features of `doubler` are not JSON"),
        (b"null", "features of `doubler` must be a JSON object, not null"),
        (b"[1]", "features of `doubler` must be a JSON object, not an array"),
        (b"NaN", "the value must be a finite number"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_bad_features_are_refused_with_the_field_named(doubler, raw, message):
    with pytest.raises(InvalidFeatures, match=f"^{message}"):
        doubler.decode(raw)


def test_a_message_stays_short_whatever_is_sent(doubler):
    for raw in (b'{"%s":1}' % (b"x" * 100_000), b'{"number":1,"unit":"%s"}' % (b"x" * 100_000)):
        with pytest.raises(InvalidFeatures) as raised:
            doubler.decode(raw)
        assert len(str(raised.value)) < 300


def test_raw_fields_of_an_event_are_decoded_as_they_are(doubler):
    assert doubler.decode(msgspec.Raw(b'{"number": 4}')).number == 4


def outcome(raw: bytes) -> object:
    """The decoded row, or the message of its refusal as bytes, as a result topic would hold it."""
    try:
        return Unwritten().decode(raw)
    except InvalidFeatures as error:
        return str(error).encode()


@given(raw=st.binary(max_size=60) | st.text(alphabet='{}[]"a:,1.eE-\\u \ud800', max_size=20).map(encode_loosely))
def test_any_bytes_are_decoded_or_refused(raw):
    assert isinstance(outcome(raw), Unwritten.Features | bytes)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.just("a"), inner, max_size=3),
)


@given(value=JSON_VALUES)
def test_any_json_that_python_writes_is_decoded_or_refused(value):
    assert isinstance(outcome(json.dumps(value).encode()), Unwritten.Features | bytes)

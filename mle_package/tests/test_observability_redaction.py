"""Redaction: what the rules name is in no record, the same value has the same token, and in doubt nothing is kept."""

import json
from typing import Annotated, Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Raw
from pydantic import ValidationError

from machine_learning_engineering.observability.redaction import (
    ALL,
    WITHHELD,
    InvalidRules,
    Redactor,
    redaction,
    tokens,
)
from machine_learning_engineering.settings import KernelSettings

KEY = "a secret of the test, 32 letters"
CANARY = "CANARY7f3a"


class Passenger(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    age: Annotated[float, Meta(ge=0)] | None = None
    ticket: str = ""
    deck: str = ""


class Titanic:
    Features = Passenger
    redacted_features: ClassVar[dict[str, str]] = {}


class Declared(Titanic):
    redacted_features: ClassVar[dict[str, str]] = {"name": "hash", "deck": "keep"}


def settings(rules: dict[str, Any], key: str | None = KEY) -> KernelSettings:
    return KernelSettings(_env_file=None, log_redact=rules, log_redact_key=key)  # type: ignore[call-arg]


def redactor(rules: dict[str, Any], model: type = Titanic) -> Redactor:
    return redaction(settings({"titanic": rules}), {"titanic": model}).by_model["titanic"]


def logged(found: Redactor, features: dict[str, Any]) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(bytes(found(Raw(json.dumps(features).encode()))))
    return decoded


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=6)


@given(st.dictionaries(st.sampled_from(["name", "age", "ticket", "deck", "other"]), VALUES), st.data())
def test_what_is_dropped_or_hashed_is_not_there_and_all_else_is_as_it_was(row: dict[str, Any], data: Any) -> None:
    """For any rules and any values, those that do not fit the model's schema too."""
    actions = data.draw(
        st.dictionaries(st.sampled_from(["name", "age", "ticket", "deck", ALL]), st.sampled_from(["hash", "drop"]))
    )
    planted = {name: [CANARY, value] for name, value in row.items()}
    if not actions:
        assert not redaction(settings({"titanic": {}}), {"titanic": Titanic}).by_model
        return
    found = redactor(actions)
    answer = logged(found, planted)
    for name, value in planted.items():
        action = actions.get(name, actions.get(ALL, "keep")) if name != "other" else "drop"
        if action == "keep":
            assert json.dumps(answer[name]) == json.dumps(value)
            assert name not in found.names
        else:
            assert CANARY not in json.dumps(answer.get(name))
            assert (name in answer) == (action == "hash")
            assert name in found.names or name == "other"


@given(VALUES, VALUES)
def test_equal_values_have_equal_tokens_and_others_have_not(one: Any, other: Any) -> None:
    """So that one can search for a value, and join by it, without holding it."""
    token = tokens(settings({}))
    assert token is not None
    again = json.loads(json.dumps(one))
    assert token(one) == token(again)
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True) or one == other
    assert (token(one) == token(other)) <= same


def test_tokens_depend_on_the_key_and_on_nothing_else() -> None:
    """The same after a restart, and in every worker with this key; the value's spelling does not matter."""
    found = redactor({"name": "hash", "age": "hash"})
    spelt = [b'{"name": "\\u00e9", "age": 1}', '{"age": 1.0, "name": "é"}'.encode()]
    first, second = (json.loads(bytes(found(Raw(one)))) for one in spelt)
    assert first == second
    assert first["name"].startswith("hash-")
    assert len(first["name"]) == len("hash-") + 32
    rotated = redaction(
        settings({"titanic": {"name": "hash"}}, "another secret, 32 letters long!"), {"titanic": Titanic}
    )
    assert json.loads(bytes(rotated.by_model["titanic"](Raw(spelt[0]))))["name"] != first["name"]


def test_what_is_kept_stays_byte_for_byte_and_a_null_stays_a_null() -> None:
    """Numbers too long for a float, spellings of numbers; and a missing value can be seen to be missing."""
    found = redactor({"ticket": "hash"})
    raw = b'{"age":0.10000000000000000000001e0,"ticket":null,"name":"\\u00e9"}'
    assert bytes(found(Raw(raw))) == raw


@pytest.mark.parametrize(
    "raw",
    [b"", b"nonsense", b"[1]", b'"text"', b"7", b"null", b"\xff\xfe", b'{"name": 1', b"[" * 100_000, b'{"a":NaN}'],
)
def test_what_can_not_be_read_is_withheld_as_a_whole(raw: bytes) -> None:
    """Nobody can say what it holds."""
    assert redactor({"ticket": "drop"})(Raw(raw)) == WITHHELD


@pytest.mark.parametrize("text", [b'{"name": "%s", "name": "x"}', b'{"name": "x", "name": "%s"}'])
def test_a_field_that_is_there_twice(text: bytes) -> None:
    """Neither of its values is logged."""
    assert CANARY.encode() not in bytes(redactor({"name": "drop"})(Raw(text % CANARY.encode())))


def test_an_allow_list_is_a_rule_for_all_others() -> None:
    """`*` is every feature that is not named."""
    found = redactor({ALL: "drop", "age": "keep"})
    assert logged(found, {"name": "n", "age": 3, "ticket": "t", "extra": 1}) == {"age": 3}
    assert found.names == ["name", "ticket", "deck"]


def test_of_two_rules_the_stricter_one_counts() -> None:
    """Neither the operator nor the author can undo what the other one protects."""
    row = {"name": "n", "ticket": "t", "deck": "d", "age": 1}
    assert set(logged(redactor({"ticket": "drop", "name": "keep", "deck": "hash"}, Declared), row)) == {
        "name",
        "deck",
        "age",
    }
    found = logged(redactor({"name": "keep", "deck": "hash"}, Declared), row)
    assert found["name"].startswith("hash-")
    assert found["deck"].startswith("hash-")
    assert logged(redactor({"name": "drop"}, Declared), row) == {"ticket": "t", "deck": "d", "age": 1}


def test_rules_for_every_model() -> None:
    """`*` is every model that is not named."""
    rules = {ALL: {"name": "drop"}, "second": {"ticket": "drop"}}
    found = redaction(settings(rules), {"first": Titanic, "second": Titanic})
    assert {name: one.names for name, one in found.by_model.items()} == {"first": ["name"], "second": ["ticket"]}


def test_without_rules_there_is_nothing_to_do() -> None:
    """No redactor, and nothing withheld."""
    found = redaction(settings({}), {"titanic": Titanic})
    assert (found.by_model, found.active) == ({}, False)


def test_rules_for_a_model_that_is_not_here_withhold_what_nobody_knows() -> None:
    """A request may name it all the same."""
    found = redaction(settings({"elsewhere": {"name": "drop"}}), {"titanic": Titanic})
    assert (found.by_model, found.active, found.unmatched) == ({}, True, ("elsewhere",))
    assert redaction(settings({"*": {"name": "drop"}, "titanic": {}}), {"titanic": Titanic}).unmatched == ()


def test_a_class_that_says_what_there_is_not_is_refused() -> None:
    """And not found out at the first request."""

    class Masked(Titanic):
        redacted_features: ClassVar[dict[str, str]] = {"name": "mask"}

    with pytest.raises(
        InvalidRules, match="the class of the model `titanic` has the action mask: use keep, hash or drop"
    ):
        redaction(settings({}), {"titanic": Masked})


@pytest.mark.parametrize(
    ("rules", "model", "words"),
    [({"nmae": "drop"}, Titanic, "INFLIGHT_LOG_REDACT redacts `nmae`"), ({}, Declared, "INFLIGHT_LOG_REDACT_KEY")],
)
def test_rules_that_can_not_be_kept_are_refused(rules: dict[str, Any], model: type, words: str) -> None:
    """A typing error must not show personal data, and without a key there is no token."""
    with pytest.raises(InvalidRules, match=words):
        redaction(settings({"titanic": rules}, None), {"titanic": model})


@pytest.mark.parametrize(
    ("rules", "key", "words"),
    [
        ({"m": {"f": "hash"}}, None, "set INFLIGHT_LOG_REDACT_KEY"),
        ({}, "too short", "16 characters"),
        ({"m": {"f": "encrypt"}}, KEY, "'keep', 'hash' or 'drop'"),
    ],
)
def test_settings_that_can_not_be_kept_are_refused_without_a_word_of_the_key(
    rules: dict[str, Any], key: str | None, words: str
) -> None:
    """The fix is named."""
    with pytest.raises(ValidationError, match=words) as caught:
        settings(rules, key)
    assert key is None or key not in str(caught.value)

"""Names, aliases and their history: which version is meant, which is which, and the way back."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from machine_learning_engineering.registry.aliases import previous_champion
from machine_learning_engineering.registry.manifest import AliasChange, CorruptModel, ModelNotFound, RegistryError
from machine_learning_engineering.registry.registry import Registry


@pytest.fixture
def registry(tmp_path) -> Registry:
    return Registry(tmp_path / "registry")


def save(registry: Registry, model) -> str:
    return registry.save(model, metrics={"r2": 0.9}, training_data_sha256="ab" * 32, seed=1)


@pytest.mark.parametrize(
    ("uri", "version"),
    [
        ("doubler", "v2"),
        ("doubler@champion", "v2"),
        ("doubler@challenger", "v3"),
        ("doubler@latest", "v3"),
        ("doubler:v1", "v1"),
        ("doubler:1", "v1"),
        ("models:/doubler", "v2"),
        ("models:/doubler@champion", "v2"),
        ("models:/doubler/1", "v1"),
        ("models:/doubler/v3", "v3"),
        ("models:/doubler/latest", "v3"),
    ],
)
def test_a_uri_names_a_version_wherever_a_model_is_named(registry, doubler, doubler_class, uri, version):
    for _ in range(3):
        save(registry, doubler)
    registry.promote("doubler", "v2")
    registry.promote("doubler", "v3", alias="challenger")
    assert registry.locate(uri) == ("doubler", version)
    assert registry.open(uri, model_class=doubler_class).version == version


@pytest.mark.parametrize("uri", ["", "models:/", "doubler/1", "doubler@", "doubler:1:2", "a@b@c", "models:/doubler:1"])
def test_a_uri_that_names_nothing_is_refused(registry, uri):
    with pytest.raises(RegistryError, match=r"is not the name of a model: use .* models:/diamonds/3"):
        registry.locate(uri)


@pytest.mark.parametrize("alias", ["", "v1", "latest", "Best", "a b", "1", "../x", "x" * 65])
def test_an_alias_that_could_be_mistaken_is_refused(registry, doubler, alias):
    save(registry, doubler)
    with pytest.raises(RegistryError, match="can't be an alias"):
        registry.promote("doubler", "v1", alias=alias)


def champions(registry: Registry, doubler, count: int) -> None:
    for number in range(1, count + 1):
        save(registry, doubler)
        registry.promote("doubler", f"v{number}", reason=f"reason {number}")


def test_the_history_says_who_promoted_what_when_and_why(registry, doubler, monkeypatch):
    monkeypatch.setenv("LOGNAME", "ada")
    before = datetime.now(UTC)
    champions(registry, doubler, 2)
    first, second = registry.history("doubler")
    assert (first.alias, first.previous, first.version, first.reason) == ("champion", None, "v1", "reason 1")
    assert (second.previous, second.version, second.by, second.rollback) == ("v1", "v2", "ada", False)
    assert before <= first.at <= second.at <= datetime.now(UTC)


def test_rollbacks_lead_back_one_champion_at_a_time(registry, doubler):
    champions(registry, doubler, 3)
    assert registry.rollback("doubler", reason="worse") == "v2"
    assert registry.champions() == {"doubler": "v2"}
    assert registry.rollback("doubler") == "v1"
    with pytest.raises(ModelNotFound, match=r"no champion before v1 .* doubler:v1, with inflight models promote"):
        registry.rollback("doubler")
    assert [change.rollback for change in registry.history("doubler")] == [False] * 3 + [True] * 2
    registry.promote("doubler", "v3")
    assert registry.rollback("doubler") == "v1"


def test_a_rollback_to_a_damaged_version_leaves_the_champion(registry, doubler):
    champions(registry, doubler, 2)
    (registry.path / "doubler" / "v1" / "model.skops").write_bytes(b"damaged")
    with pytest.raises(CorruptModel):
        registry.rollback("doubler")
    assert (registry.champions(), len(registry.history("doubler"))) == ({"doubler": "v2"}, 2)


def test_a_challenger_that_wins_is_no_challenger_any_more(registry, doubler):
    champions(registry, doubler, 2)
    registry.promote("doubler", "v1", alias="challenger")
    registry.promote("doubler", "v1")
    assert registry.aliases("doubler") == {"champion": "v1"}
    last = registry.history("doubler")[-2:]
    assert {(change.alias, change.version) for change in last} == {("challenger", None), ("champion", "v1")}


def test_what_changes_nothing_is_no_history(registry, doubler):
    champions(registry, doubler, 1)
    registry.promote("doubler", "v1", reason="again")
    assert len(registry.history("doubler")) == 1


def test_aliases_from_before_there_was_a_history_are_read_and_kept(registry, doubler):
    save(registry, doubler)
    save(registry, doubler)
    (registry.path / "doubler" / "aliases.json").write_text('{"champion": "v1"}')
    assert (registry.champions(), registry.history("doubler")) == ({"doubler": "v1"}, [])
    registry.promote("doubler", "v2")
    assert registry.rollback("doubler") == "v1"


@given(moves=st.lists(st.sampled_from(["v1", "v2", "v3", "back"]), max_size=25))
@settings(max_examples=60, deadline=None)
def test_rollbacks_undo_promotions_like_a_stack(moves):
    """Whatever the order of promotions and rollbacks, a rollback gives the champion that a stack would give."""
    history: list[AliasChange] = []
    stack: list[str] = []
    now = datetime.now(UTC)
    for move in moves:
        current = stack[-1] if stack else None
        if move == "back":
            expected = stack[-2] if len(stack) > 1 else None
            assert previous_champion(history) == expected
            if expected is not None:
                stack.pop()
                history.append(AliasChange("champion", expected, current, now, "ada", rollback=True))
        elif move != current:
            stack.append(move)
            history.append(AliasChange("champion", move, current, now, "ada"))


DAMAGES = [b"bad", b'{"aliases": {"champion": "v\xff1"}, "history": []}', b'{"champion": "v\xff1"}']


@pytest.mark.parametrize("damage", DAMAGES, ids=["no JSON", "no UTF-8", "no UTF-8 without a history"])
def test_damaged_aliases_are_in_the_way_of_aliases_only(registry, doubler, doubler_class, damage):
    """A version that is named opens, and a promotion makes the aliases anew."""
    champions(registry, doubler, 2)
    (registry.path / "doubler" / "aliases.json").write_bytes(damage)
    with pytest.raises(CorruptModel, match="promote a version, such as doubler:v1, with inflight models promote"):
        registry.resolve("doubler")
    assert registry.open("doubler:v1", model_class=doubler_class).version == "v1"
    assert registry.resolve("doubler", "latest") == "v2"
    registry.promote("doubler", "v1")
    assert registry.champions() == {"doubler": "v1"}


@pytest.mark.parametrize("damage", DAMAGES, ids=["no JSON", "no UTF-8", "no UTF-8 without a history"])
def test_damaged_aliases_are_not_taken_for_none(registry, doubler, damage):
    """Only a promotion that somebody asks for replaces them: a champion may be named in them."""
    champions(registry, doubler, 2)
    path = registry.path / "doubler" / "aliases.json"
    path.write_bytes(damage)
    with pytest.raises(CorruptModel, match=r"the aliases of .* can't be read"), registry.edit_aliases("doubler"):
        pytest.fail("they were given to be changed")
    with pytest.raises(CorruptModel):
        registry.rollback("doubler")
    assert path.read_bytes() == damage
    assert save(registry, doubler) == "v3"

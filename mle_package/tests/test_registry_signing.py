"""Signatures of manifests and aliases: what is refused, how keys are changed, and what an old file is worth."""

import json
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.registry.manifest import CorruptModel, RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.resigning import sign_all
from machine_learning_engineering.registry.signing import SignatureRefused, Signer
from machine_learning_engineering.storage.location import Location

OLD, NEW = "old-key-0123456789", "new-key-0123456789"
DOCUMENT = msgspec.json.format(msgspec.json.encode({"name": "a", "files": {"x": 1}}), indent=2)
SIGNED = Signer((OLD,)).sign(DOCUMENT, "manifest of a v1")


@pytest.fixture
def place(tmp_path) -> Location:
    return Location(str(tmp_path / "registry"), cache=tmp_path / "cache", keys=(OLD,))


def save(registry: Registry, model) -> str:
    return registry.save(model, metrics={"r2": 0.9}, training_data_sha256="ab" * 32, seed=1)


def test_a_signed_file_is_json_with_one_more_field():
    assert json.loads(SIGNED) == json.loads(DOCUMENT) | {"signature": json.loads(SIGNED)["signature"]}
    Signer((OLD,)).verify(SIGNED, "manifest of a v1", "x")
    Signer((NEW, OLD)).verify(SIGNED, "manifest of a v1", "x")


@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255))
def test_no_byte_can_be_changed(at, by):
    changed = bytes([*SIGNED[:at], SIGNED[at] ^ by, *SIGNED[at + 1 :]])
    with pytest.raises(SignatureRefused):
        Signer((OLD,)).verify(changed, "manifest of a v1", "x")


@given(st.binary(max_size=300))
def test_nothing_else_passes(content):
    for made in (content, SIGNED + content, content + SIGNED):
        if made != SIGNED:
            with pytest.raises(SignatureRefused):
                Signer((OLD,)).verify(made, "manifest of a v1", "x")


def test_the_file_of_another_version_or_key_is_refused():
    with pytest.raises(SignatureRefused, match="was changed after it was signed, or belongs elsewhere"):
        Signer((OLD,)).verify(SIGNED, "manifest of a v2", "x")
    with pytest.raises(SignatureRefused, match=r"is signed with the key .*, known are .*: add that key"):
        Signer((NEW,)).verify(SIGNED, "manifest of a v1", "x")
    with pytest.raises(SignatureRefused, match="is not signed; it was not used"):
        Signer((NEW,)).verify(DOCUMENT, "manifest of a v1", "x")


def test_an_unsigned_registry_is_refused_until_it_is_signed(place, doubler, doubler_class):
    unsigned = Registry(replace(place, keys=()))
    save(unsigned, doubler)
    unsigned.promote("doubler", "v1", reason="before there was a key")
    registry = Registry(place)
    with pytest.raises(SignatureRefused, match=r"aliases.json is not signed.*inflight models sign"):
        registry.champions()
    with pytest.raises(SignatureRefused, match=r"manifest.json is not signed"):
        registry.open("doubler", "v1", model_class=doubler_class)
    assert list(sign_all(place)) == ["doubler:v1", "the aliases of doubler"]
    assert registry.open("doubler", model_class=doubler_class).version == "v1"
    assert [change.reason for change in registry.history("doubler")] == ["before there was a key"]
    assert unsigned.open("doubler", model_class=doubler_class).version == "v1"
    with pytest.raises(RegistryError, match="there is no key to sign with"):
        list(sign_all(replace(place, keys=())))


def test_keys_are_changed_one_after_the_other(place, doubler):
    registry, both, new = (Registry(replace(place, keys=keys)) for keys in ((OLD,), (NEW, OLD), (NEW,)))
    save(registry, doubler)
    registry.promote("doubler", "v1")
    save(both, doubler)
    both.promote("doubler", "v2")
    with pytest.raises(SignatureRefused, match="is signed with the key"):
        registry.champions()
    with pytest.raises(SignatureRefused, match="is signed with the key"):
        new.verify("doubler", "v1")
    list(sign_all(both.place))
    assert new.champions() == {"doubler": "v2"}
    assert [new.verify("doubler", version).version for version in ("v1", "v2")] == ["v1", "v2"]


def test_what_is_damaged_is_not_signed(place, doubler):
    unsigned = Registry(replace(place, keys=()))
    save(unsigned, doubler)
    (unsigned.path / "doubler" / "v1" / "model.skops").write_bytes(b"damaged")
    with pytest.raises(CorruptModel, match="it was not opened"):
        list(sign_all(place))
    with pytest.raises(SignatureRefused):
        Registry(place).manifest("doubler", "v1")


def test_an_old_alias_file_is_refused_where_a_newer_one_was_read(place, doubler, tmp_path):
    registry = Registry(place)
    save(registry, doubler)
    save(registry, doubler)
    aliases = registry.path / "doubler" / "aliases.json"
    registry.promote("doubler", "v1")
    old = aliases.read_bytes()
    registry.promote("doubler", "v2")
    assert registry.champions() == {"doubler": "v2"}
    aliases.write_bytes(old)
    for one in (registry, Registry(place)):
        with pytest.raises(CorruptModel, match="are an old file: revision 1, this machine has read 2 before"):
            one.champions()
        with pytest.raises(CorruptModel, match="are an old file"), one.edit_aliases("doubler"):
            pass
    aliases.unlink()
    with pytest.raises(CorruptModel, match="are an old file: revision 0"):
        registry.champions()
    aliases.write_bytes(old)
    # It is valid for a machine that has never read another one.
    assert Registry(replace(place, cache=tmp_path / "new machine")).champions() == {"doubler": "v1"}
    registry.promote("doubler", "v2", reason="after a backup was restored")
    assert registry.champions() == {"doubler": "v2"}
    assert json.loads(aliases.read_text())["revision"] == 3


def test_a_manifest_of_another_version_is_refused(place, doubler):
    registry = Registry(place)
    save(registry, doubler)
    save(registry, doubler)
    one, other = (registry.path / "doubler" / version / "manifest.json" for version in ("v1", "v2"))
    other.write_bytes(one.read_bytes())
    with pytest.raises(SignatureRefused, match="or belongs elsewhere"):
        registry.manifest("doubler", "v2")
    assert registry.overview()[1]


def test_keys_are_in_no_text(place):
    assert OLD not in repr(place)
    assert OLD not in str(place)
    assert OLD not in repr(Registry(place).__dict__)

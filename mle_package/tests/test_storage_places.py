"""Paths and URLs, the settings that hold them, and the home folder."""

import logging
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from machine_learning_engineering.settings import KernelSettings
from machine_learning_engineering.storage import settings as place_settings
from machine_learning_engineering.storage.location import Location, parse_place


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("models", Path("models")),
        ("/srv/models", Path("/srv/models")),
        ("./a:b/c", Path("./a:b/c")),
        ("a:b", Path("a:b")),
        ("file:///srv/my%20models", Path("/srv/my models")),
        ("file:/srv/models", Path("/srv/models")),
        ("s3://bucket", Location("s3://bucket")),
        ("S3://bucket//a///b/", Location("s3://bucket/a/b")),
        ("gs://bucket/a", Location("gs://bucket/a")),
        ("az://container/a", Location("az://container/a")),
    ],
)
def test_a_place_is_a_path_or_a_url(text, place):
    assert parse_place(text) == place


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("https://host/a", "scheme https: is not supported: use a path, file:"),
        ("s3:/bucket/a", "names no bucket"),
        ("s3://", "names no bucket"),
        ("s3://key:password@bucket/a", "neither credentials nor a query.*AWS_ACCESS_KEY_ID"),
        ("s3://bucket/a?X-Amz-Signature=password", "neither credentials nor a query"),
        ("file://host/a", "an absolute path, as file:///srv/models"),
    ],
)
def test_what_is_neither_is_refused_without_its_text(text, message):
    with pytest.raises(ValueError, match=message) as found:
        parse_place(text)
    assert "password" not in str(found.value)


@given(st.text(max_size=60))
def test_any_text_is_a_place_or_refused(text):
    with suppress(ValueError):
        assert isinstance(parse_place(text), Path | Location)


@pytest.fixture
def variables(monkeypatch, tmp_path):
    def read(**values) -> KernelSettings:
        for name, value in {"home": tmp_path / "home", **values}.items():
            monkeypatch.setenv(f"INFLIGHT_{name.upper()}", str(value))
        return KernelSettings()

    return read


def test_settings_take_urls_and_give_each_reader_the_keys(variables, tmp_path):
    settings = variables(
        registry="s3://models/registry",
        registry_signing_key="first-key-012345678 second-key-01234567",
        registry_timeout=3,
        train_models_target=str(tmp_path / "history"),
        train_data_target="s3://models/layers",
    )
    home, keys = tmp_path / "home", ("first-key-012345678", "second-key-01234567")
    assert settings.registry_dir == settings.sota_dir
    assert settings.registry_dir == Location("s3://models/registry", home / "registry-cache", timeout=3.0, keys=keys)
    # A folder is signed as well; layers are not.
    assert settings.history_dir == Location(str(tmp_path / "history"), home / "registry-cache", timeout=3.0, keys=keys)
    assert settings.layers_dir == Location("s3://models/layers", home / "registry-cache", timeout=3.0)
    assert settings.training_log == home / "training-log.jsonl"
    assert "first-key" not in repr(settings)
    assert "second-key" not in repr(settings.registry_dir)


def test_a_folder_without_a_key_is_a_path(variables, tmp_path):
    assert variables(registry=tmp_path / "r").registry_dir == tmp_path / "r"
    assert variables(registry=f"file://{tmp_path}/r").registry_dir == tmp_path / "r"


def test_a_key_is_read_from_a_file(variables, tmp_path):
    file = tmp_path / "key"
    file.write_text("first-key-012345678\nsecond-key-01234567\n")
    found = variables(registry_signing_key_file=file).registry_dir
    assert isinstance(found, Location)
    assert found.keys == ("first-key-012345678", "second-key-01234567")
    with pytest.raises(ValidationError, match="not both"):
        variables(registry_signing_key="first-key-012345678")


@pytest.mark.parametrize("key", ["short", " ", "long-enough-0123456 short"])
def test_a_short_key_is_refused_and_not_quoted(variables, key):
    with pytest.raises(ValidationError, match="at least 16 characters: openssl rand") as found:
        variables(registry_signing_key=key)
    assert "long-enough" not in str(found.value)


def test_a_key_file_that_can_not_be_read_is_named(variables, tmp_path):
    with pytest.raises(ValidationError, match="INFLIGHT_REGISTRY_SIGNING_KEY_FILE can't be read"):
        variables(registry_signing_key_file=tmp_path / "missing")


def test_the_home_does_not_depend_on_the_current_folder(monkeypatch, tmp_path, caplog):
    monkeypatch.delenv("INFLIGHT_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    found = set()
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        found.add(KernelSettings().home)
    assert found == {tmp_path / "user" / ".inflight"}
    assert caplog.messages == []


def test_another_home_in_the_current_folder_is_named(monkeypatch, tmp_path, caplog):
    place_settings._warn_once.cache_clear()
    monkeypatch.delenv("INFLIGHT_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    (tmp_path / ".inflight" / "registry").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert KernelSettings().home == KernelSettings().home == tmp_path / "user" / ".inflight"
    here = tmp_path / ".inflight"
    assert caplog.messages == [
        f"{tmp_path}/user/.inflight is used, not {here}: to use that, export INFLIGHT_HOME={here}"
    ]


def test_a_relative_home_is_made_absolute_and_named(monkeypatch, tmp_path, caplog):
    place_settings._warn_once.cache_clear()
    monkeypatch.setenv("INFLIGHT_HOME", "my-home")
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert KernelSettings().home == tmp_path / "my-home"
    assert len(caplog.messages) == 1
    assert f"INFLIGHT_HOME is relative: {tmp_path}/my-home is used" in caplog.messages[0]

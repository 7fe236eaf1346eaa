"""`inflight keys`: a key is shown once, and listed without what it is."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from inflight.settings import load_settings
from producers.gateway.keys import KeyFile
from tests.support.line_model import run


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("INFLIGHT_HOME", str(tmp_path))
    load_settings.cache_clear()
    yield tmp_path
    load_settings.cache_clear()


def test_add_list_revoke(home: Path) -> None:
    text = run("keys", "add", "shop", "--scope", "predict", "--scope", "read", "--days", "90").strip()
    file = KeyFile(home / "gateway-keys.json")
    file.refresh()
    key = file.find(text.splitlines()[0])
    assert key is not None
    assert (key.name, key.scopes) == ("shop", ("predict", "read"))
    listed = run("keys", "list")
    assert "shop" in listed
    assert text.splitlines()[0] not in listed
    (shown,) = json.loads(run("keys", "list", "--json"))
    assert shown["scopes"] == ["predict", "read"]
    assert "sha256" not in shown
    assert "revoked" in run("keys", "revoke", "shop")
    file.refresh()
    assert file.find(text.splitlines()[0]) is None
    assert "revoked" in run("keys", "list")


def test_the_default_scope_is_the_least() -> None:
    assert json.loads(run("keys", "add", "shop", "--json"))["scopes"] == ["predict"]


def test_a_key_that_is_there_is_not_made_again() -> None:
    """With --missing, as a start script wants it; a revoked one does not count."""
    assert run("keys", "add", "shop", "--missing")
    assert run("keys", "add", "shop", "--missing", "--json") == ""
    assert len(json.loads(run("keys", "list", "--json"))) == 1
    run("keys", "revoke", "shop")
    assert json.loads(run("keys", "add", "shop", "--missing", "--json"))["name"] == "shop"


def test_mistakes_name_the_fix() -> None:
    assert "there are predict, label, read, admin" in run("keys", "add", "shop", "--scope", "all", code=2)
    assert "keys list" in run("keys", "revoke", "nobody", code=1)
    run("keys", "add", "shop")
    assert "revoke it first" in run("keys", "add", "shop", code=2)

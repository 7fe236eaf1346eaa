"""`inflight redact`: the rules as the workers keep them, and the tokens to search for."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inflight.cli import app
from inflight.settings import Settings, load_settings
from machine_learning_engineering.observability.redaction import tokens

KEY = "a secret of this test"


@pytest.fixture(autouse=True)
def fresh_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The settings are read anew, from what a test sets."""
    monkeypatch.chdir(tmp_path)
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()


def test_the_rules_of_each_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which features are hashed or dropped, and that the others are not."""
    monkeypatch.setenv("INFLIGHT_LOG_REDACT", '{"titanic": {"name": "hash", "ticket": "drop"}}')
    monkeypatch.setenv("INFLIGHT_LOG_REDACT_KEY", KEY)
    shown = CliRunner().invoke(app, ["redact"]).stdout
    assert "titanic: hash name; drop ticket" in shown
    assert "diamonds: all features are logged as they were sent" in shown
    found = json.loads(CliRunner().invoke(app, ["redact", "--json"]).stdout)
    assert (found["titanic"]["name"], found["titanic"]["ticket"], found["titanic"]["age"]) == ("hash", "drop", "keep")


@pytest.mark.parametrize(("text", "value"), [("Braund, Mr. Owen", "Braund, Mr. Owen"), ("7.0", 7), ("[1]", [1])])
def test_the_token_of_a_value_is_the_workers(monkeypatch: pytest.MonkeyPatch, text: str, value: object) -> None:
    """So that the log can be searched for a person who asks."""
    monkeypatch.setenv("INFLIGHT_LOG_REDACT_KEY", KEY)
    token = tokens(Settings(_env_file=None, log_redact_key=KEY))  # type: ignore[call-arg,arg-type]
    assert token is not None
    assert CliRunner().invoke(app, ["redact", "--value", text]).stdout == f"{token(value)}\n"


def test_what_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A feature that there is none of, and a key that is not set."""
    assert "INFLIGHT_LOG_REDACT_KEY" in CliRunner().invoke(app, ["redact", "--value", "x"]).stderr
    load_settings.cache_clear()
    monkeypatch.setenv("INFLIGHT_LOG_REDACT", '{"titanic": {"nmae": "drop"}}')
    done = CliRunner().invoke(app, ["redact"])
    assert (done.exit_code, "redacts `nmae` of the model `titanic`" in done.stderr) == (2, True)


def test_rules_for_a_model_that_is_not_there_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name may be a slip of the pen, and what it should protect is then logged."""
    monkeypatch.setenv("INFLIGHT_LOG_REDACT", '{"Titanic": {"name": "drop"}}')
    done = CliRunner().invoke(app, ["redact", "--json"])
    assert json.loads(done.stdout)["titanic"]["name"] == "keep"
    assert "has rules for Titanic, and there is no such model" in done.stderr

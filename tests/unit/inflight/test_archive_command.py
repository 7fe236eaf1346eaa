"""`inflight archive --migrate`: the tables without the process, as a job of a deployment runs it."""

import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from inflight.cli import app
from inflight.settings import load_settings


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # No broker: the job needs none.
    monkeypatch.setenv("INFLIGHT_HOME", str(tmp_path))
    monkeypatch.setenv("INFLIGHT_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()


def test_the_tables_are_made_once_without_a_broker(tmp_path: Path) -> None:
    for _ in range(2):
        result = CliRunner().invoke(app, ["archive", "--migrate"])
        assert result.exit_code == 0, result.output
    with sqlite3.connect(tmp_path / "archive.sqlite") as database:
        names = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert {"predictions", "labels", "api_calls"} <= names


def test_a_database_that_does_not_respond_is_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the job is tried again."""
    monkeypatch.setenv("INFLIGHT_ARCHIVE_URL", "postgresql://inflight:s3cret-pw@127.0.0.1:1/inflight")
    result = CliRunner().invoke(app, ["archive", "--migrate"])
    assert result.exit_code == 2
    assert "127.0.0.1" in result.output
    assert "s3cret-pw" not in result.output

"""`inflight drift show` with measurements that are there, and without any."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from typer.testing import CliRunner

from inflight.cli import app
from inflight.settings import Settings
from machine_learning_engineering.events.schemas import DriftMeasured, FieldDrift

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CARAT = FieldDrift("features.carat", "feature", "distribution", 6.5, 1e-9, 1e-8, True, 0.0, 0.0, 0.25, 0.0)
TEXT = FieldDrift("features.text", "feature", "words", 0.02, 0.4, 1.0, False, 0.0, 0.5, 0.0, 0.0, "film")
WINDOW = DriftMeasured(
    "diamonds", "v3", "abc", START, START + timedelta(hours=1), "count", 1_000, 0.01, 0.1, [CARAT, TEXT]
)


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> list[DriftMeasured]:
    """What the topic of measurements holds of diamonds."""
    found: list[DriftMeasured] = []

    def last(_settings: Settings, model: str, count: int) -> list[DriftMeasured]:
        return found[-count:] if model == "diamonds" else []

    monkeypatch.setattr("monitoring.drift.history.last_windows", last)
    monkeypatch.setattr("inflight.commands.drift.require_broker", lambda: None)
    return found


def test_a_window_is_a_table_of_its_fields(windows: list[DriftMeasured]) -> None:
    """What drifted stands out."""
    windows.append(WINDOW)
    shown = CliRunner().invoke(app, ["drift", "show", "diamonds"])
    assert shown.exit_code == 0, shown.output
    assert "diamonds v3, 1,000 rows, 2026-03-01T12:00:00Z to 2026-03-01T13:00:00Z: 1 drifted" in shown.output
    lines = {
        name: line for line in shown.output.splitlines() for name in ("carat", "text") if f"features.{name}" in line
    }
    assert "DRIFTED" in lines["carat"]
    assert "25.0%" in lines["carat"]
    assert "words (film)" in lines["text"]
    assert "DRIFTED" not in lines["text"]


def test_json_has_everything(windows: list[DriftMeasured]) -> None:
    """One object, with the events as they are on the topic."""
    windows.extend([WINDOW] * 3)
    shown = CliRunner().invoke(app, ["drift", "show", "diamonds", "--json", "--last", "2"])
    found = json.loads(shown.stdout)
    assert [window["window_id"] for window in found["windows"]] == ["abc", "abc"]
    assert found["windows"][0]["fields"][0]["field"] == "features.carat"


def test_no_window_says_what_to_look_at(windows: list[DriftMeasured]) -> None:
    """With exit code 1."""
    shown = CliRunner().invoke(app, ["drift", "show", "titanic"])
    assert shown.exit_code == 1
    assert "inflight drift-monitor" in shown.stderr

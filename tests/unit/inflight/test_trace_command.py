"""What `inflight trace` prints, and how it ends."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from typer.testing import CliRunner

from inflight.cli import app
from monitoring.trace.path import Document, Path, Position, Step

NOW = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
REQUEST = Position("prediction-requests", 2, 47)
FOUND = Path(
    "order-1",
    [
        Step(NOW, "request", REQUEST, {"model": "diamonds", "bytes": 212}),
        Step(NOW, "request", REQUEST._replace(offset=48), {"model": "diamonds\x1b[31m"}, repeat="equal"),
        Step(NOW, "result", Position("prediction-results", 2, 7), {"outcome": "completed", "model_version": None}),
        Step(NOW, "log", Position("prediction-logs", 2, 7), {"queue_seconds": 0.00123456}, REQUEST),
        Step(
            NOW,
            "dead_letter",
            Position("prediction-dead-letters", 0, 17),
            {"address": "0:17", "reason": "conflicting_duplicate"},
            Position("prediction-logs", 2, 8),
        ),
    ],
    [Document("inference-logs-2026.03.01", "order-1", {"outcome": "completed", "labelled": True})],
    {"label": 3},
    ["no outcome yet: the worker is slow"],
)


def run(monkeypatch: pytest.MonkeyPatch, found: Path | Exception, *arguments: str) -> Any:
    asked: dict[str, Any] = {}

    def trace(_settings: object, request_id: str, **options: Any) -> Path:
        asked.update(options, request_id=request_id)
        options["progress"]("prediction-requests", 10_000)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr("monitoring.trace.readers.trace", trace)
    monkeypatch.setattr("inflight.commands.trace.require_broker", lambda: None)
    result = CliRunner().invoke(app, ["trace", "order-1", *arguments])
    return result, asked


def test_the_path_is_a_line_for_each_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Aligned, with times in UTC, repeats by name, and the command that shows a dead letter."""
    result, asked = run(monkeypatch, FOUND)
    assert result.exit_code == 0
    assert (asked["request_id"], asked["values"], asked["since"]) == ("order-1", False, None)
    lines = result.stdout.splitlines()
    assert lines[0] == (
        "2026-03-01T12:00:00.123Z  request      prediction-requests 2:47           model diamonds, bytes 212"
    )
    assert "duplicate: same model and features as the first; model diamonds\\x1b[31m" in lines[1]
    assert "\x1b" not in result.stdout
    assert lines[2].endswith("outcome completed")
    assert "queue seconds 0.001235" in lines[3]
    assert lines[4].endswith("reason conflicting_duplicate; of prediction-logs 2:8; inflight dlq show 0:17")
    assert "inference-logs-2026.03.01/order-1" in lines[5]
    assert "labelled true" in lines[5]
    assert lines[6:] == ["... and 3 more: label", "missing: no outcome yet: the worker is slow"]


def test_json_has_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """One object, for scripts."""
    result, asked = run(monkeypatch, FOUND, "--json", "--values", "--since", "2026-03-01T00:00:00Z")
    found = json.loads(result.stdout)
    assert [one["stage"] for one in found["steps"]] == ["request", "request", "result", "log", "dead_letter"]
    assert found["steps"][0]["position"] == ["prediction-requests", 2, 47]
    assert found["documents"][0]["index"] == "inference-logs-2026.03.01"
    assert found["missing"] == FOUND.missing
    assert (asked["values"], asked["since"]) == (True, datetime(2026, 3, 1, tzinfo=UTC))


def test_an_unknown_request_ends_with_1_and_an_unreachable_broker_with_2(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in one line. An index that was not asked is named."""
    nothing, _ = run(monkeypatch, Path("order-1", [], [], {}, ["document unknown: no response"]))
    assert (nothing.exit_code, nothing.stdout) == (1, "")
    assert nothing.stderr == "error: no topic and no index has a request 'order-1' (document unknown: no response)\n"
    down, _ = run(monkeypatch, KafkaException(KafkaError(KafkaError._TRANSPORT, "Broker transport failure")))
    assert (down.exit_code, down.stdout, len(down.stderr.splitlines())) == (2, "", 1)
    wrong, _ = run(monkeypatch, FOUND, "--since", "whenever")
    assert (wrong.exit_code, "'whenever'" in wrong.stderr) == (2, True)

"""`inflight health`, against metrics that are served, that say "not ready", and that nobody serves."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge
from typer.testing import CliRunner

from inflight.cli import app
from inflight.commands import health
from inflight.settings import load_settings
from monitoring.runtime.process import serve_metrics


@pytest.fixture(autouse=True)
def settings_are_read_anew() -> Iterator[None]:
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()


@pytest.fixture
def partitions(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gauge]:
    """The metric of a worker that is served."""
    registry = CollectorRegistry()
    gauge = Gauge("inflight_worker_assigned_partitions", "of the topic", registry=registry)
    with serve_metrics(registry, "127.0.0.1", 0) as url:
        monkeypatch.setenv("INFLIGHT_WORKER_METRICS_PORT", url.split(":")[2].partition("/")[0])
        yield gauge


def asked(*arguments: str) -> tuple[int, dict[str, object]]:
    said = CliRunner().invoke(app, ["health", *arguments, "--json"])
    return said.exit_code, json.loads(said.output)


def test_a_process_that_serves_its_metrics_responds(partitions: Gauge) -> None:
    assert asked("worker") == (0, {"process": "worker", "healthy": True, "state": "responds"})


def test_a_worker_is_ready_once_it_has_partitions(partitions: Gauge) -> None:
    assert asked("worker", "--ready") == (1, {"process": "worker", "healthy": False, "state": "not ready"})
    partitions.set(3)
    assert asked("worker", "--ready") == (0, {"process": "worker", "healthy": True, "state": "ready"})


def test_a_process_that_is_not_there_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("INFLIGHT_INDEXER_METRICS_PORT", str(port))
    code, found = asked("indexer")
    assert (code, found["healthy"]) == (1, False)
    assert f"http://127.0.0.1:{port}/metrics does not respond" in str(found["state"])


def test_in_a_container_it_is_the_process_that_was_started(
    partitions: Gauge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "FIRST", tmp_path / "cmdline")
    health.FIRST.write_bytes(b"/opt/inflight/bin/python\0/opt/inflight/bin/inflight\0worker\0")
    assert asked()[1]["process"] == "worker"


@pytest.mark.parametrize("line", [b"", b"/sbin/init\0", b"python\0-c\0\xff\0", None])
def test_without_one_it_asks_for_the_name(line: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "FIRST", tmp_path / "cmdline")
    if line is not None:
        health.FIRST.write_bytes(line)
    said = CliRunner().invoke(app, ["health"])
    assert said.exit_code == 2
    assert "name the process: there are worker, " in said.output


def test_a_process_that_is_unknown_is_named() -> None:
    said = CliRunner().invoke(app, ["health", "wroker"])
    assert said.exit_code == 2
    assert "there is no process `wroker`" in said.output

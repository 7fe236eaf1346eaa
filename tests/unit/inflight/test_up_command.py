"""What `inflight up` says, and where it starts."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from inflight.cli import app
from inflight.commands.nodes import _local_port
from inflight.settings import load_settings
from inflight.stack.process import ProcessId, free_port
from inflight.stack.stack import NodeState, StackState
from machine_learning_engineering.kafka import client as kafka


@pytest.fixture
def ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """Those of the broker and the search node, in settings that no stack was started from yet."""
    kafka, elasticsearch = free_port(), free_port()
    monkeypatch.setenv("INFLIGHT_HOME", str(tmp_path))
    monkeypatch.setenv("INFLIGHT_KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{kafka}")
    monkeypatch.setenv("INFLIGHT_ELASTICSEARCH_URL", f"http://localhost:{elasticsearch}")
    load_settings.cache_clear()
    yield kafka, elasticsearch
    run("down")
    load_settings.cache_clear()


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, arguments)


def run_apart(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own, which what it starts has to outlive."""
    command = [sys.executable, "-m", "inflight.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_the_stack_starts_where_the_settings_look_for_it(ports: tuple[int, int], tmp_path: Path) -> None:
    """Standard output is for a shell; another port is refused while it is up; status tells of settings that differ."""
    first = run_apart("up")
    lines = first.stdout.splitlines()
    assert first.returncode == 0
    assert lines[:2] == [
        f"export INFLIGHT_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:{ports[0]}",
        f"export INFLIGHT_ELASTICSEARCH_URL=http://127.0.0.1:{ports[1]}",
    ]
    assert lines[-1] == f"export INFLIGHT_HOME={tmp_path}"
    assert all(line.startswith("export INFLIGHT_") for line in lines)
    assert "`inflight down`" in first.stderr
    assert 'eval "$(inflight up)"' in first.stderr

    elsewhere = run_apart("up", "--kafka-port", str(free_port()))
    assert elsewhere.returncode == 2
    assert "`inflight down` first" in elsewhere.stderr
    assert run_apart("up", "--kafka-port", str(ports[0])).returncode == 0

    status = run("status")
    assert status.exit_code == 0
    assert 'eval "$(inflight up)"' in status.stderr
    assert json.loads(run("status", "--json").stdout)["broker"]["reachable"]


def test_without_a_kind_it_is_the_one_that_runs(ports: tuple[int, int], tmp_path: Path, monkeypatch: Any) -> None:
    """So that `eval "$(inflight up)"`, which every hint names, fits either."""
    folder = tmp_path / "stack"
    addresses = {"kafka": f"127.0.0.1:{ports[0]}", "elasticsearch": f"http://127.0.0.1:{ports[1]}"}
    monkeypatch.setattr(kafka, "create_topics", lambda _settings: [])
    with contextlib.ExitStack() as children:
        nodes = []
        for name in ("kafka", "elasticsearch"):
            (folder / name).mkdir(parents=True)
            command = [sys.executable, "-c", "input()"]
            child = children.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, cwd=folder / name, start_new_session=True)
            )
            children.callback(child.kill)
            process = ProcessId.of(child.pid)
            assert process is not None
            log = str(folder / name / f"{name}.log")
            nodes.append(NodeState(name, process, {name: addresses[name]}, log))
        StackState("real", tuple(nodes)).save(tmp_path)
        result = run("up")
        other = run("up", "--stack", "embedded")
        (folder / "state.json").unlink()
    assert (result.exit_code, result.stdout.splitlines()[0]) == (
        0,
        f"export INFLIGHT_KAFKA_BOOTSTRAP_SERVERS={addresses['kafka']}",
    )
    assert other.exit_code == 2
    assert "--stack real" in other.stderr


def test_status_of_a_stack_that_has_ended_asks_the_nodes_of_the_settings(
    ports: tuple[int, int], tmp_path: Path
) -> None:
    """As after a reboot, which leaves the file."""
    ended = ProcessId(os.getpid(), "long ago")
    addresses = {"kafka": "127.0.0.1:1", "elasticsearch": "http://127.0.0.1:1"}
    log = str(tmp_path / "stack" / "embedded" / "embedded.log")
    StackState("embedded", (NodeState("embedded", ended, addresses, log),)).save(tmp_path)
    found = json.loads(run("status", "--json").stdout)
    assert found["broker"]["bootstrap_servers"] == f"127.0.0.1:{ports[0]}"
    assert [node["alive"] for node in found["nodes"]] == [False]


@pytest.mark.usefixtures("ports")
def test_status_of_nothing_names_the_command_that_starts_it() -> None:
    """On standard error, after the addresses that were tried."""
    result = run("status")
    assert result.exit_code == 1
    assert "UNREACHABLE" in result.stdout
    assert "`inflight up`" in result.stderr


@pytest.mark.parametrize(
    ("address", "port"),
    [
        ("127.0.0.1:19092", 19092),
        ("http://localhost:9200/prefix", 9200),
        ("localhost", None),
        ("kafka:9092", None),
        ("127.0.0.1:9092,127.0.0.1:9093", None),
        ("https://search.example:9200", None),
        ("127.0.0.1:no", None),
    ],
)
def test_a_port_of_this_machine_is_taken_from_an_address(address: str, port: int | None) -> None:
    """Of a node elsewhere nothing is."""
    assert _local_port(address) == port

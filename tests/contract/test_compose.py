"""docker-compose.yml against what it names: the settings, the commands, the files. No engine runs here."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from inflight.cli import app
from machine_learning_engineering.settings import Settings

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
    return found


@pytest.fixture(scope="module")
def ours(services: dict[str, Any]) -> dict[str, Any]:
    return {name: service for name, service in services.items() if service["image"].startswith("inflight:")}


def test_compose_accepts_the_file() -> None:
    """By its own validation: `docker compose config`, or Debian's docker-compose."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and not subprocess.run([*command, "version"], capture_output=True).returncode:
            checked = subprocess.run([*command, "-f", FILE, "config", "-q"], capture_output=True, text=True)
            assert checked.returncode == 0, checked.stderr
            return
    assert not os.environ.get("REQUIRE_REAL"), "docker compose is missing: install Debian's docker-compose"
    pytest.skip("docker compose is not installed")


def test_every_process_is_there(ours: dict[str, Any]) -> None:
    """The stream, its log and its metrics."""
    assert {"train", "worker", "indexer", "exporter", "producer"} <= ours.keys()


def test_every_variable_is_a_setting(ours: dict[str, Any]) -> None:
    """A misspelt one would be ignored without a word."""
    fields = {f"INFLIGHT_{name.upper()}" for name in Settings.model_fields}
    named = {name for service in ours.values() for name in service["environment"]}
    assert named
    assert named <= fields


def test_every_command_is_one(ours: dict[str, Any]) -> None:
    """With options that it has."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for service in ours.values():
        name, *options = service["command"]
        if name == "--help":
            continue
        known = {option for parameter in commands[name].params for option in parameter.opts}
        assert set(options) <= known, (name, options)


def test_our_processes_may_write_their_volume_and_nothing_else(ours: dict[str, Any]) -> None:
    """Not root, no capabilities, a read-only root."""
    for service in ours.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        dockerfile = ROOT / service["build"]["dockerfile"]
        assert re.findall(r"^USER (.+)$", dockerfile.read_text(), re.M)[-1] == "10001:10001"


def test_nothing_listens_beyond_the_host(services: dict[str, Any]) -> None:
    """There is no password on any of them."""
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_images_are_pinned_and_watched(services: dict[str, Any]) -> None:
    """Each by its version, with a health check or a run that ends, and with a limit to its memory."""
    for name, service in services.items():
        assert re.search(r":v?\d+\.\d+", service["image"]), name
        assert "healthcheck" in service, name
        assert "mem_limit" in service, name

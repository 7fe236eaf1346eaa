"""docs/gateway.md as a new user reads it: its examples are run as they stand, in shell, Python and JavaScript."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from inflight.settings import Settings
from inflight.stack.process import free_port
from machine_learning_engineering.registry.registry import Registry
from model.catalog import available
from producers.gateway.problems import PROBLEMS
from producers.gateway.settings import GatewaySettings
from tests.support.deployment import Deployment
from tests.support.waiting import until

PAGE = Path(__file__).parents[2] / "docs" / "gateway.md"
TEXT = PAGE.read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```(sh|python|javascript)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMANDS = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}


@pytest.fixture
def deployment(settings: Settings, training_settings: Settings, trained_registry: Registry) -> Iterator[Deployment]:
    """With a champion of each model."""
    model = trained_registry.open("diamonds", model_class=available()["diamonds"])
    with Deployment(settings, training_settings, model) as found:
        yield found


def test_the_examples_run(deployment: Deployment, tmp_path: Path) -> None:
    """Each of them ends well and prints what the page says it would."""
    if shutil.which("curl") is None:
        pytest.skip("no curl on PATH")
    port = free_port()
    deployment.worker()
    gateway = deployment.gateway(port)
    deployment.serving(1)
    until(gateway.serves, 120, "the gateway is ready")
    printed = {}
    for number, (kind, code) in enumerate(_BLOCK.findall(TEXT)):
        if "inflight gateway\n" in code:
            continue
        code = code.replace("127.0.0.1:8080", f"127.0.0.1:{port}")
        if kind == "javascript":
            if shutil.which("node") is None:
                continue
            script = tmp_path / "example.mjs"
            script.write_text(code)
            command = ["node", str(script)]
        else:
            command = [*COMMANDS[kind], code]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, (code, done.stdout, done.stderr)
        printed[number] = (kind, done.stdout)
    assert {kind for kind, _ in printed.values()} >= {"sh", "python"}
    row, many, later, upload, stream, tensors = [text for kind, text in printed.values() if kind == "sh"]
    assert json.loads(row)["price"] > 0
    assert len(json.loads(many)["predictions"]) == 2
    assert set(json.loads(later)["prediction"]) == {"survived", "probability"}
    outcomes = [json.loads(line) for line in upload.splitlines()]
    assert outcomes[0]["request_id"] == "passengers-2026-11:1"
    assert outcomes[2] == {"lines": 2, "predicted": 1, "running": 0, "failed": 1}
    assert "id: " in stream
    assert [one["name"] for one in json.loads(tensors)["outputs"]] == ["survived", "probability", "prediction"]
    programs = [text.strip() for kind, text in printed.values() if kind == "python"]
    assert programs[1] == "2000"
    assert "probability" in programs[2]
    if scripts := [text.strip() for kind, text in printed.values() if kind == "javascript"]:
        assert scripts[1] == "2000"
        assert scripts[2] in ("true", "false")


def test_the_page_names_every_problem_and_setting() -> None:
    missing = [kind for kind in PROBLEMS if f"`{kind}`" not in TEXT]
    assert set(missing) == {"method-not-allowed"}
    own = [name for name in GatewaySettings.__annotations__ if name.startswith("gateway_")]
    assert own
    unnamed = [name for name in own if name.removeprefix("gateway_").upper() not in TEXT]
    assert set(unnamed) <= {
        "gateway_port",
        "gateway_metrics_port",
        "gateway_recall_bytes",
        "gateway_registry_poll_interval",
    }

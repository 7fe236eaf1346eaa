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
    outputs = [text for _, text in printed.values()]
    assert json.loads(outputs[0])["price"] > 0
    assert {kind for kind, _ in printed.values()} >= {"sh", "python"}
    shells = [json.loads(text) for kind, text in printed.values() if kind == "sh"]
    assert len(shells) == 4
    assert len(shells[1]["predictions"]) == 2
    assert set(shells[2]["prediction"]) == {"survived", "probability"}
    assert [row["features"]["cut"] for row in shells[3]["rows"]] == ["Ideal", "Ideal"]


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

"""docs/gateway.md as a new user reads it: its examples are run as they stand, in shell, Python and JavaScript."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    row, many, later, similar, upload, stream, tensors = [text for kind, text in printed.values() if kind == "sh"]
    assert json.loads(row)["price"] > 0
    assert len(json.loads(many)["predictions"]) == 2
    assert set(json.loads(later)["prediction"]) == {"survived", "probability"}
    assert [one["features"]["cut"] for one in json.loads(similar)["rows"]] == ["Ideal", "Ideal"]
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


PYTHON = """
import json, sys, urllib.request
method, url, body = sys.argv[1:4]
headers = {"Content-Type": "application/json"} if body else {}
request = urllib.request.Request(url, body.encode() or None, headers, method=method)
with urllib.request.urlopen(request, timeout=60) as response:
    print(response.status, response.read().decode())
"""
JAVASCRIPT = """
const [method, url, body] = process.argv.slice(2);
const headers = body ? { "Content-Type": "application/json" } : {};
const response = await fetch(url, { method, headers, body: body || undefined });
console.log(response.status, await response.text());
"""


def asked_by(language: str, folder: Path, method: str, url: str, body: str) -> tuple[int, Any]:
    """One request from a program in this language: status and content."""
    if language == "curl":
        sent = ["-H", "Content-Type: application/json", "-d", body] if body else []
        command = ["curl", "-s", "-X", method, "-w", "\n%{http_code}", url, *sent]
    elif language == "python":
        command = [sys.executable, "-c", PYTHON, method, url, body]
    else:
        script = folder / "ask.mjs"
        script.write_text(JAVASCRIPT)
        command = ["node", str(script), method, url, body]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    if language == "curl":
        content, _, status = done.stdout.rpartition("\n")
    else:
        status, _, content = done.stdout.partition(" ")
    return int(status), json.loads(content)


def is_plain(path: str, operation: dict[str, Any]) -> bool:
    """Whether a program needs no more than the path and the example of a body, and gets JSON."""
    needed = [one for one in operation.get("parameters", ()) if one.get("in") == "query" and one.get("required")]
    answer = operation["responses"].get("200", {}).get("content", {"application/json": {}})
    return set(re.findall(r"{(\w+)}", path)) <= {"model", "request_id"} and not needed and "application/json" in answer


def test_every_route_from_three_languages(deployment: Deployment, tmp_path: Path) -> None:
    """As its OpenAPI document says, with the examples that it gives: each gets a success that is documented."""
    languages = ["python", *(name for name, tool in (("curl", "curl"), ("javascript", "node")) if shutil.which(tool))]
    port = free_port()
    deployment.worker()
    gateway = deployment.gateway(port, gateway_deadline=50)
    deployment.serving(1)
    until(gateway.serves, 120, "the gateway is ready")
    base = f"http://127.0.0.1:{port}"
    _, document = asked_by("python", tmp_path, "GET", f"{base}/openapi.json", "")
    # The routes that make a request come first: the others ask for it.
    operations = [
        (path, method.upper(), operation)
        for path, methods in sorted(document["paths"].items(), key=lambda pair: "{request_id}" in pair[0])
        for method, operation in methods.items()
        if is_plain(path, operation)
    ]
    assert len(operations) >= 10
    for language in languages:
        values = {"model": sorted(available())[0]}
        for path, method, operation in operations:
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            body = json.dumps(content["example"]) if "example" in content else ""
            url = base + path.format_map(values)
            status, answer = asked_by(language, tmp_path, method, url, body)
            assert str(status) in operation["responses"], (language, method, path)
            assert 200 <= status < 300, (language, method, path, status, answer)
            values["request_id"] = answer.get("request_id", values.get("request_id"))


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

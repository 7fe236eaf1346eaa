"""The Open Inference Protocol with a client that is not ours: NVIDIA's `tritonclient`, in an environment of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from inflight.settings import Settings
from inflight.stack.process import free_port
from machine_learning_engineering.sdk import MLEModel
from monitoring.audit.readers import run_audit
from tests.support.deployment import Deployment
from tests.support.waiting import until

PROGRAM = Path(__file__).parents[1] / "support" / "programs" / "triton_client.py"
CLIENT = "tritonclient[http]==2.73.0"
UV = Path(sys.executable).with_name("uv")
# Wheels of 60 MB are downloaded, on a machine that may be busy.
pytestmark = pytest.mark.timeout(900)


def run(*command: str | Path) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    words = [str(part) for part in command]
    done = subprocess.run(words, env=clean, capture_output=True, text=True, check=False, timeout=800)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3_000:]}\n{done.stderr[-3_000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with the client and what it needs: gevent, aiohttp, NumPy. They are no part of the project."""
    if not UV.exists():
        pytest.skip("no uv beside the interpreter")
    found = tmp_path_factory.mktemp("triton") / "venv"
    run(UV, "venv", "--quiet", "--python", sys.executable, found)
    run(UV, "pip", "install", "--quiet", "--python", found / "bin" / "python", CLIENT)
    return found / "bin" / "python"


def test_tritonclient(
    deployment: Deployment, settings: Settings, diamonds: MLEModel, python: Path, tmp_path: Path
) -> None:
    """Binary tensors as it sends them by default, JSON, both clients, errors; the same predictions as the model's."""
    port = free_port()
    deployment.worker()
    gateway = deployment.gateway(port)
    deployment.serving(1)
    until(gateway.serves, 120, "the gateway is ready")
    rows = list(deployment.diamonds(5))
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    found: dict[str, Any] = json.loads(run(python, PROGRAM, str(port), tmp_path / "rows.json"))

    prices = [one.price for one in diamonds.predict([diamonds.decode(json.dumps(row).encode()) for row in rows])]
    same = ("price", "again", "json", "fp32", "objects", "one_by_one", "asynchronous")
    assert {name: found[name] for name in same} == dict.fromkeys(same, prices)
    assert [one["price"] for one in found["prediction"]] == prices
    assert found["live"]
    assert found["ready"] == [True, True, True]
    assert found["unknown"] == [False, False]
    assert found["server"]["name"] == "inflight"
    assert found["id"] == "triton-1"
    assert found["version"] == diamonds.version
    assert found["metadata"]["versions"] == [diamonds.version]
    types = {one["name"]: one["datatype"] for one in found["metadata"]["inputs"]}
    assert (types["carat"], types["cut"]) == ("FP64", "BYTES")
    errors = found["errors"]
    assert {name: status for name, (status, _) in errors.items()} == {
        "model": "404",
        "version": "404",
        "features": "400",
        "reused": "422",
    }
    assert f"{diamonds.version} is the version of diamonds" in errors["version"][1]
    assert "feature `carat`" in errors["features"][1]

    deployment.settles()
    audit = run_audit(settings, index=False)
    assert audit.passed, audit
    # Five requests of all rows, of which one was sent twice with its id; each row alone; and one that fails.
    assert (audit.completed, audit.failed) == (5 * len(rows) + len(rows), 1)

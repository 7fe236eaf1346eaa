"""Programs that `make chart`, `make cluster` and `make terraform` build: without them their tests are skipped."""

import os
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / ".venv" / "tools"


def tool(name: str, target: str) -> str:
    """Path of a program; without it the test is skipped, or fails where `INFLIGHT_REQUIRE_TOOLS` is set."""
    program = TOOLS / name
    if not program.exists():
        message = f"{name} is missing: make {target} builds it"
        if os.environ.get("INFLIGHT_REQUIRE_TOOLS"):
            pytest.fail(message)
        pytest.skip(message)
    return str(program)


def run(*command: str | Path, **options: object) -> str:
    """The output of a program; what it says is the message of its failure."""
    result = subprocess.run(  # type: ignore[call-overload]
        [str(word) for word in command], capture_output=True, text=True, timeout=300, **options
    )
    assert result.returncode == 0, f"{command[0]} {command[1]}: {result.stdout[-4000:]}{result.stderr[-4000:]}"
    return str(result.stdout)

"""oha, a load generator that is not ours, as the client of a gateway: an open loop, and what it measured."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.deployment import EvaluationError

INSTALL = "oha is not on PATH: cargo install oha --version 1.16.0 --locked (cargo: https://rustup.rs)"
CONNECTIONS = 256
"""Fewer than the requests in progress would close the loop."""
REQUEST_SECONDS = 10


class Load(msgspec.Struct, frozen=True):
    """What a run measured; latencies in milliseconds, from the moment a request was due to its whole response."""

    name: str
    wanted_rate: float
    rate: float
    requests: int
    answered: int
    statuses: dict[str, int]
    errors: dict[str, int]
    p50: float
    p90: float
    p99: float
    p999: float
    maximum: float


def find_tool() -> str:
    """The path of oha.

    Raises:
        EvaluationError: it is missing.
    """
    cargo = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo")) / "bin"
    found = shutil.which("oha") or shutil.which("oha", path=str(cargo))
    if found is None:
        raise EvaluationError(INSTALL)
    return found


def version(tool: str) -> str:
    """The name and the version that the tool gives itself."""
    return subprocess.run([tool, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def run(tool: str, name: str, url: str, bodies: Path, *, rate: float, requests: int) -> Load:
    """Send so many requests, `rate` a second, whether the ones before are answered or not.

    Args:
        bodies: a JSON body in each line; each request takes one of them.

    Raises:
        EvaluationError: the tool failed; with its last lines.
    """
    command = [tool, "-n", str(requests), "-q", f"{rate:g}", "-c", str(CONNECTIONS), "-t", f"{REQUEST_SECONDS}s"]
    command += ["-m", "POST", "-T", "application/json", "-Z", str(bodies), "--latency-correction", "--no-tui"]
    command += ["--output-format", "json", url]
    limit = requests / rate * 3 + 120
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        raise EvaluationError(
            f"{name}: {requests:,} requests took more than {limit:.0f} s: choose a lower rate"
        ) from None
    if done.returncode != 0:
        raise EvaluationError(f"{tool} failed:\n{(done.stderr or done.stdout)[-1_000:]}")
    return read(name, rate, requests, msgspec.json.decode(done.stdout))


def read(name: str, rate: float, requests: int, report: dict[str, Any]) -> Load:
    """The figures of the tool's report."""
    quantiles = {key: 1_000 * value for key, value in report["latencyPercentiles"].items() if value is not None}
    statuses = report["statusCodeDistribution"]
    return Load(
        name=name,
        wanted_rate=rate,
        rate=report["summary"]["requestsPerSec"],
        requests=requests,
        answered=statuses.get("200", 0),
        statuses=statuses,
        errors=report["errorDistribution"],
        p50=quantiles.get("p50", float("inf")),
        p90=quantiles.get("p90", float("inf")),
        p99=quantiles.get("p99", float("inf")),
        p999=quantiles.get("p99.9", float("inf")),
        maximum=1_000 * report["summary"]["slowest"],
    )

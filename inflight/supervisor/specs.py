"""Which processes a deployment on one machine has, and how each is started."""

import importlib.util
import os
import re
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inflight.settings import Settings
from inflight.stack.process import usable_port

PROCESSES = (
    "worker",
    "gateway",
    "indexer",
    "exporter",
    "drift-monitor",
    "label-joiner",
    "rollout-controller",
    "retrainer",
    "archive",
)
"""In the order in which they start."""
READY = {
    "worker": r"(?m)^inflight_worker_assigned_partitions [1-9]",
    "gateway": r"(?m)^inflight_gateway_ready 1",
}
"""What the metrics of a process match once it is ready; of another one, anything."""
_EXTRAS = {"gateway": ("starlette",), "archive": ("sqlalchemy", "alembic")}
"""Packages of the extra that a process needs."""


@dataclass(frozen=True)
class ProcessSpec:
    """How to start a process, and how to see that it is ready.

    Attributes:
        name: unique, such as `worker-2`.
        kind: the command, such as `worker`.
        argv: the command line.
        environment: the whole environment.
        metrics_url: where it serves its metrics.
        ready_when: it is ready once its metrics match this.
    """

    name: str
    kind: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    metrics_url: str
    ready_when: re.Pattern[str]


def missing_extra(kind: str) -> bool:
    """Whether a process can't start because its extra is not installed."""
    return any(importlib.util.find_spec(package) is None for package in _EXTRAS.get(kind, ()))


def command_line(command: str) -> list[str]:
    """How this Python runs a command of one or more words."""
    return [sys.executable, "-P", "-m", "inflight.cli", *command.split()]


def metrics_variable(command: str) -> str:
    """The variable that sets the port of a process's metrics."""
    return f"INFLIGHT_{command.split()[0].upper().replace('-', '_')}_METRICS_PORT"


def metrics_url(settings: Settings, port: int) -> str:
    """Where a process of this machine serves its metrics."""
    return f"http://{_reachable(settings.metrics_host)}:{port}/metrics"


def serves(metrics_url: str, ready_when: re.Pattern[str]) -> bool:
    """Whether the metrics of a process match.

    Raises:
        OSError: it does not serve them.
    """
    with urllib.request.urlopen(metrics_url, timeout=2) as response:  # noqa: S310 - our own process
        return ready_when.search(response.read().decode()) is not None


def deployment(
    settings: Settings, environment: Mapping[str, str], kinds: Sequence[str], workers: int
) -> list[ProcessSpec]:
    """The processes of a deployment.

    Args:
        settings: for the ports of the metrics; a port in use is replaced by a free one.
        environment: added to that of this process.
        kinds: the commands to run, of `PROCESSES`.
        workers: number of workers.
    """
    specs = []
    for kind in kinds:
        count = workers if kind == "worker" else 1
        for number in range(1, count + 1):
            name = f"{kind}-{number}" if count > 1 else kind
            port = usable_port(settings.metrics_ports[kind] if number == 1 else 0)
            specs.append(
                ProcessSpec(
                    name,
                    kind,
                    command_line(kind),
                    {**os.environ, **environment, metrics_variable(kind): str(port)},
                    metrics_url(settings, port),
                    re.compile(READY.get(kind, "")),
                )
            )
    return specs


def _reachable(host: str) -> str:
    """An address of this machine that reaches a server which listens on `host`."""
    if host in ("0.0.0.0", ""):  # noqa: S104 - compared, not listened on
        return "127.0.0.1"
    if host == "::":
        return "[::1]"
    return f"[{host}]" if ":" in host else host

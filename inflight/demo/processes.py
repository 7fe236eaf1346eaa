"""The processes of the product, started as a user would start them, each with its log and its metrics."""

import os
import re
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from inflight.stack.process import Launch, Node, free_port


class Process(Node):
    """One process: `inflight COMMAND` (one or more words), its metrics on a free port.

    Args:
        ready_when: regular expression; the process is ready once its metrics match it.
    """

    seconds_to_ready = 120.0

    def __init__(
        self, name: str, command: str, directory: Path, environment: Mapping[str, str], ready_when: str = ""
    ) -> None:
        self.name = name  # type: ignore[misc]
        super().__init__(directory)
        self._command = command
        self._ready_when = re.compile(ready_when)
        self.metrics_port = free_port()
        variable = f"INFLIGHT_{command.split()[0].upper().replace('-', '_')}_METRICS_PORT"
        self._environment = {**environment, variable: str(self.metrics_port)}

    @property
    def endpoints(self) -> dict[str, str]:
        """The address of its metrics."""
        return {"metrics": f"127.0.0.1:{self.metrics_port}"}

    @property
    def metrics_url(self) -> str:
        """The URL of its metrics."""
        return f"http://127.0.0.1:{self.metrics_port}/metrics"

    def is_ready(self) -> bool:
        """Whether it serves its metrics, and they match."""
        with urllib.request.urlopen(self.metrics_url, timeout=2) as response:  # noqa: S310 - our own loopback address
            return self._ready_when.search(response.read().decode()) is not None

    def prepare(self) -> Launch:
        """Run the command with this Python and the environment of the deployment."""
        command = [sys.executable, "-P", "-m", "inflight.cli", *self._command.split()]
        return Launch(command, {**os.environ, **self._environment})


def product(directory: Path, environment: Mapping[str, str], workers: int, gateway_port: int = 0) -> list[Process]:
    """The workers, the indexer, the exporter and the gateway of one deployment, not yet started.

    Args:
        gateway_port: where the gateway listens, on a loopback address; 0 is any free port.
    """
    owning = r"inflight_worker_assigned_partitions [1-9]"
    found = [Process(f"worker-{n}", "worker", directory, environment, owning) for n in range(1, workers + 1)]
    found += [Process(name, name, directory, environment) for name in ("indexer", "exporter")]
    # Whatever is set for a gateway elsewhere: this one is for this machine, and asks for no key.
    own = {"INFLIGHT_GATEWAY_HOST": "127.0.0.1", "INFLIGHT_GATEWAY_PORT": str(gateway_port)}
    own["INFLIGHT_GATEWAY_ALLOWED_HOSTS"] = "[]"
    ready = r"(?m)^inflight_gateway_ready 1"
    return [*found, Process("gateway", "gateway", directory, {**environment, **own}, ready)]

"""The processes of the product, started as a user would start them, each with its log and its metrics."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from inflight.stack.process import Launch, Node, free_port
from inflight.supervisor.specs import READY, command_line, metrics_variable, serves


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
        self._environment = {**environment, metrics_variable(command): str(self.metrics_port)}

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
        return serves(self.metrics_url, self._ready_when)

    def prepare(self) -> Launch:
        """Run the command with this Python and the environment of the deployment."""
        return Launch(command_line(self._command), {**os.environ, **self._environment})


def product(directory: Path, environment: Mapping[str, str], workers: int, gateway_port: int = 0) -> list[Process]:
    """The workers, the indexer, the exporter and the gateway of one deployment, not yet started.

    Args:
        gateway_port: where the gateway listens, on a loopback address; 0 is any free port.
    """
    found = [Process(f"worker-{n}", "worker", directory, environment, READY["worker"]) for n in range(1, workers + 1)]
    found += [Process(name, name, directory, environment) for name in ("indexer", "exporter")]
    # Whatever is set for a gateway elsewhere: this one is for this machine, and asks for no key.
    own = {"INFLIGHT_GATEWAY_HOST": "127.0.0.1", "INFLIGHT_GATEWAY_PORT": str(gateway_port)}
    own["INFLIGHT_GATEWAY_ALLOWED_HOSTS"] = "[]"
    return [*found, Process("gateway", "gateway", directory, {**environment, **own}, READY["gateway"])]

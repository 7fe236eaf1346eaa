"""The processes of the product, started as a user would start them: one, or all of a deployment."""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from inflight.stack.process import Launch, Node, free_port
from inflight.supervisor.specs import command_line, metrics_variable, serves

_LEFT_OUT = ("drift-monitor", "label-joiner")
"""The demo sends no labels, and is over before a window of drift is full."""


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


class Deployment(Node):
    """The processes of the demo, started and supervised by `inflight run`, with one log.

    Args:
        directory: of the log.
        environment: of the deployment.
        workers: number of workers.
        gateway_port: where the gateway listens, on a loopback address.
    """

    name = "run"
    seconds_to_ready = 180.0

    def __init__(self, directory: Path, environment: Mapping[str, str], workers: int, gateway_port: int) -> None:
        super().__init__(directory)
        self.gateway_port = gateway_port
        self._workers = workers
        # Whatever is set for a gateway elsewhere: this one is for this machine, and asks for no key. The log is read.
        own = {"INFLIGHT_GATEWAY_HOST": "127.0.0.1", "INFLIGHT_GATEWAY_PORT": str(gateway_port)}
        own |= {"INFLIGHT_GATEWAY_ALLOWED_HOSTS": "[]", "INFLIGHT_LOG_FORMAT": "ecs"}
        self._environment = {**environment, **own}

    @property
    def endpoints(self) -> dict[str, str]:
        """The address of the gateway."""
        return {"gateway": f"127.0.0.1:{self.gateway_port}"}

    @property
    def metrics_urls(self) -> dict[str, str]:
        """Where each process that is ready serves its metrics, by its name."""
        ready = (line for line in self._events() if line.get("event.action") == "process_ready")
        return {line["inflight.child"]: line["inflight.metrics"] for line in ready}

    def is_ready(self) -> bool:
        """Whether all processes are ready."""
        return any(line.get("event.action") == "ready" for line in self._events())

    def prepare(self) -> Launch:
        """Run the command with this Python and the environment of the deployment."""
        # A log of an earlier run would say that this one is ready.
        self.log_path.unlink(missing_ok=True)
        left_out = " ".join(f"--without {kind}" for kind in _LEFT_OUT)
        argv = command_line(f"run --workers {self._workers} {left_out}")
        return Launch(argv, {**os.environ, **self._environment})

    def _events(self) -> Iterator[dict[str, Any]]:
        """What the supervisor logged of the processes."""
        for line in self.log_path.read_bytes().splitlines():
            if b"inflight.run" in line:
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

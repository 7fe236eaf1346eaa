"""The product's own processes, run as a user would: `python -m ROOM`, each with its log and its metrics."""

import re
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from inflight.stack.process import Launch, Node, free_port


class Process(Node):
    """One process of the product.

    Args:
        ready_when: what its metrics have to say before it counts as ready, a regular expression.
    """

    seconds_to_ready = 120.0

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        *,
        port_variable: str,
        ready_when: str = "",
        **kwargs: Any,
    ) -> None:
        self.name = name  # type: ignore[misc]
        super().__init__(directory, **kwargs)
        self._ready_when = re.compile(ready_when)
        self._arguments = list(arguments)
        self.metrics_port = free_port()
        self._environment = {**environment, port_variable: str(self.metrics_port)}

    @property
    def endpoints(self) -> dict[str, str]:
        """Where the process serves its metrics."""
        return {"metrics": f"127.0.0.1:{self.metrics_port}"}

    @property
    def metrics_url(self) -> str:
        """The metrics, as a browser or Prometheus reads them."""
        return f"http://127.0.0.1:{self.metrics_port}/metrics"

    def is_ready(self) -> bool:
        """Whether the metrics are served, and say so."""
        with urllib.request.urlopen(self.metrics_url, timeout=2) as answer:  # noqa: S310 - our own loopback address
            return self._ready_when.search(answer.read().decode()) is not None

    def prepare(self) -> Launch:
        """Run this Python, with the environment of the deployment."""
        return Launch([sys.executable, "-m", *self._arguments], self._environment)


def product(directory: Path, environment: Mapping[str, str], workers: int) -> list[Process]:
    """The workers, the indexer and the exporter of one deployment, not yet started."""
    found = [
        Process(
            f"worker-{number}",
            ["stream_app"],
            directory,
            environment,
            port_variable="INFLIGHT_WORKER_METRICS_PORT",
            ready_when=r"inflight_worker_assigned_partitions [1-9]",
        )
        for number in range(1, workers + 1)
    ]
    for name in ("indexer", "exporter"):
        variable = f"INFLIGHT_{name.upper()}_METRICS_PORT"
        found.append(Process(name, ["monitoring", name], directory, environment, port_variable=variable))
    return found

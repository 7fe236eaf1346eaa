"""A real Prometheus with the shipped rules, over a whole deployment."""

import json
import os
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from inflight.stack.process import free_port
from tests.support.deployment import Deployment
from tests.support.supervised import Supervised
from tests.support.waiting import until

FOLDER = Path(__file__).parents[2] / "monitoring" / "deploy" / "prometheus"


class Prometheus:
    """A Prometheus of its own, with the shipped rules, that scrapes every second."""

    def __init__(self, folder: Path, jobs: dict[str, Supervised]) -> None:
        config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
        assert {job["job_name"] for job in config["scrape_configs"]} == set(jobs)
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(FOLDER / name) for name in config["rule_files"]]
        del config["alerting"]
        config["scrape_configs"] = [
            {"job_name": name, "static_configs": [{"targets": [urlsplit(process.metrics_url).netloc]}]}
            for name, process in jobs.items()
        ]
        folder.mkdir()
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.url = f"http://127.0.0.1:{free_port()}"
        with (folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address={urlsplit(self.url).netloc}",
                    "--enable-feature=exemplar-storage",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def query(self, expression: str) -> list[Any]:
        """The vector of an instant query."""
        with urllib.request.urlopen(
            f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        ) as answer:
            body = json.load(answer)
        assert body["status"] == "success", body
        found: list[Any] = body["data"]["result"]
        return found

    def exemplars(self, expression: str) -> list[dict[str, Any]]:
        """The exemplars of the series that an expression reads, in the last quarter of an hour."""
        asked = urllib.parse.urlencode({"query": expression, "start": time.time() - 900, "end": time.time() + 1})
        with urllib.request.urlopen(f"{self.url}/api/v1/query_exemplars?{asked}") as answer:
            body = json.load(answer)
        return [exemplar for series in body["data"] for exemplar in series["exemplars"]]

    def has(self, expression: str) -> bool:
        """Whether the query finds anything yet."""
        try:
            return bool(self.query(expression))
        except OSError:
            return False

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(120)


@contextmanager
def observed(
    deployment: Deployment,
    folder: Path,
    *,
    quality_interval: float = 60.0,
    gateway_port: int | None = None,
    **worker: object,
) -> Iterator[tuple[Prometheus, dict[str, Supervised]]]:
    """One process of each kind, all at work, and the Prometheus that scrapes them; the processes are by job.

    Args:
        quality_interval: seconds between two measurements of live quality.
        gateway_port: where the gateway listens; any free port by default.
        worker: settings of the worker.
    """
    if shutil.which("prometheus") is None:
        assert not os.environ.get("REQUIRE_REAL"), "prometheus is missing: install Debian's prometheus"
        pytest.skip("prometheus is not installed")
    jobs = {
        "inflight-worker": deployment.worker(**worker),
        "inflight-indexer": deployment.indexer(),
        "inflight-exporter": deployment.exporter(),
        "inflight-drift-monitor": deployment.drift_monitor(),
        "inflight-label-joiner": deployment.label_joiner(quality_interval=quality_interval),
        "inflight-features": deployment.features(),
        "inflight-gateway": deployment.gateway(gateway_port or free_port()),
        "inflight-archive": deployment.archive(),
        "inflight-rollout-controller": deployment.rollout_controller(),
    }
    deployment.serving(1)
    for process in jobs.values():
        until(process.serves, 300, f"{process.name} serves")
    prometheus = Prometheus(folder, jobs)
    try:
        yield prometheus, jobs
    finally:
        prometheus.stop()

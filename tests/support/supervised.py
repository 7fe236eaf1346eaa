"""A process of the product that is started again when it ends, as a supervisor would do it."""

import urllib.request
from http.client import HTTPException
from typing import Any

import psutil
from prometheus_client.parser import text_string_to_metric_families

from inflight.demo.processes import Process


class Supervised(Process):
    """A process that its deployment starts again when it ends, unless it was meant to end."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.wanted = False
        self.exit_codes: list[int] = []

    def _reap(self) -> None:
        if self._child is not None:
            self.exit_codes.append(self._child.wait(timeout=60))
            self._child = None

    @property
    def pid(self) -> int:
        """The pid of the present run."""
        assert self.process_id is not None
        return self.process_id.pid

    def serves(self) -> bool:
        """Whether it runs and has begun its work."""
        try:
            return self.is_alive() and self.is_ready()
        except (OSError, HTTPException):
            return False

    def rss(self) -> int:
        """Resident memory in bytes; 0 while it is down."""
        try:
            return int(psutil.Process(self.pid).memory_info().rss)
        except psutil.NoSuchProcess:
            return 0

    def stands_still(self) -> bool:
        """Whether somebody stopped it with SIGSTOP."""
        try:
            return bool(psutil.Process(self.pid).status() == psutil.STATUS_STOPPED)
        except psutil.NoSuchProcess:
            return False

    def metric(self, sample: str, **labels: str) -> float:
        """A sample of its metrics, summed over the labels that are not given; 0 where it can't be read."""
        try:
            with urllib.request.urlopen(self.metrics_url, timeout=20) as answer:
                families = list(text_string_to_metric_families(answer.read().decode()))
        except (OSError, HTTPException):
            return 0.0
        found = (one for family in families for one in family.samples if one.name == sample)
        return sum(one.value for one in found if labels.items() <= one.labels.items())

"""A case as a process on one core: started, looked at from outside, stopped by its pid."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import psutil

from benchmarks.cases.catalog import Case
from benchmarks.cases.task import GROUP_VARIABLE
from benchmarks.deployment import EvaluationError
from benchmarks.machine import Cores, pin
from inflight.settings import Settings

ROOT = Path(__file__).parents[1]
STOP_SECONDS = 40.0


class Surroundings(Protocol):
    """What a case runs in."""

    @property
    def settings(self) -> Settings: ...

    @property
    def cores(self) -> Cores: ...

    @property
    def environment(self) -> dict[str, str]: ...


class Subject:
    """A running case."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._seen = psutil.Process(process.pid)
        self._log = log

    def check(self) -> None:
        """
        Raises:
            EvaluationError: the process has ended; with the end of its log.
        """
        if self._process.poll() is not None:
            lines = self._log.read_text(errors="replace").splitlines()[-15:]
            raise EvaluationError("the case ended by itself:\n" + "\n".join(lines))

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        times = self._seen.cpu_times()
        return float(times.user + times.system)

    def rss_bytes(self) -> int:
        """Resident memory now."""
        return int(self._seen.memory_info().rss)

    def peak_rss_bytes(self) -> int:
        """The most resident memory so far; the present value where the system keeps no peak."""
        # Not `ru_maxrss`: a child starts with its parent's.
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
            return 1024 * int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])
        return self.rss_bytes()


@contextlib.contextmanager
def running(case: Case, deployment: Surroundings, group: str) -> Iterator[Subject]:
    """The case as a process, until the end of the `with`: then SIGTERM, and SIGKILL if that does not help."""
    log = deployment.settings.home / "case.log"
    core = deployment.cores.case

    def before_exec() -> None:
        pin(set() if core is None else {core})

    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", case.module],
            cwd=ROOT,
            env={**deployment.environment, GROUP_VARIABLE: group},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=before_exec if hasattr(os, "sched_setaffinity") else None,
        )
    try:
        yield Subject(process, log)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

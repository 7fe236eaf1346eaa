"""The machine that a run is measured on, and which of its cores do what."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import msgspec

PACKAGES = ("confluent-kafka", "faust-streaming", "aiokafka", "kafka-python", "faststream", "scikit-learn", "msgspec")


class Cores(NamedTuple):
    """Core numbers. `case` is the one core of the process that is measured; `rest` are those of everything else."""

    case: int | None
    rest: frozenset[int]


class Machine(msgspec.Struct, frozen=True):
    """What a reader needs to judge the figures. `load` is the load average over a minute when the run began."""

    cores: int
    pinned: bool
    processor: str
    system: str
    python: str
    versions: dict[str, str]
    load: float


def share_cores() -> Cores:
    """The last core for the case, the others for the broker and us; no case core where that can't be set."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores(None, frozenset())
    *rest, last = sorted(os.sched_getaffinity(0))
    return Cores(last, frozenset(rest)) if rest else Cores(None, frozenset())


def pin(cores: frozenset[int] | set[int]) -> None:
    """Keep the calling thread, and what it starts from now on, on these cores."""
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def describe(cores: Cores) -> Machine:
    """The machine as it is now."""
    return Machine(
        cores=os.cpu_count() or 1,
        pinned=cores.case is not None,
        processor=_processor(),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions={package: found for package in PACKAGES if (found := _version(package))},
        load=os.getloadavg()[0],
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()

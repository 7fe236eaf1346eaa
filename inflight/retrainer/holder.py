"""Who does a run: this process, and whether another one of this machine still exists."""

import os
import socket
import uuid
from pathlib import Path

from machine_learning_engineering.rollout.retraining import Holder

_PROC = Path("/proc")


def this_process() -> Holder:
    """A holder of its own for each run."""
    pid = os.getpid()
    name = f"{socket.gethostname()}, process {pid}"
    return Holder(_machine(), pid, _started(pid) or 0, uuid.uuid4().hex, name)


def is_gone(holder: Holder) -> bool:
    """Whether a holder is known to have ended: a process of this machine that no longer exists. Others may live."""
    return holder.machine == _machine() and _started(holder.pid) != holder.started


def _machine() -> str:
    """This machine since it was booted, and what can be seen of its processes: containers have ids of their own."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{(_PROC / 'self/ns/pid').readlink().name}"
    except OSError:
        return f"{socket.gethostname()}/{uuid.uuid4().hex}"


def _started(pid: int) -> int | None:
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name of the program is in brackets and may hold any character.
    state, *fields = stat.rpartition(")")[2].split()
    return None if state in ("Z", "X") else int(fields[18])

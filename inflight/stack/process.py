"""A node of the stack as a child process: started with a log file, polled until ready, stopped by its pid."""

import contextlib
import ctypes
import itertools
import os
import random
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

POLL = 0.05
"""Seconds between polls of a process or a node."""
LOG_TAIL_LINES = 25
_KILL_SECONDS = 60.0
"""On a machine with a busy disk, ending a process takes long."""


class StackError(RuntimeError):
    """The stack failed; the message names the fix or shows the end of the node's log."""


class ProcessId(NamedTuple):
    """A process, identified by pid and start time: the pid alone may belong to another process later."""

    pid: int
    started: str
    """Start time as the operating system reports it; only compared."""

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has this pid now; None if there is none, or a zombie."""
        return next((cls(pid, started) for _, started in _look(pid)), None)

    def is_alive(self) -> bool:
        return ProcessId.of(self.pid) == self

    def works_in(self, folder: Path) -> bool:
        """Whether it is a process of this user, or of a user that root gave it, and of a node with this folder."""
        process = Path(f"/proc/{self.pid}")
        try:
            if process.stat().st_uid != os.geteuid() and os.geteuid() != 0:
                return False
            # Elasticsearch's script changes its current folder; its configuration is among its arguments.
            arguments = os.fsdecode((process / "cmdline").read_bytes())
            return (process / "cwd").readlink() == folder.resolve() or f"={folder}/" in arguments
        except OSError:
            return False

    def stop(self, grace: float = 30.0) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds. Does nothing if the process has exited."""
        if not self.is_alive():
            return
        # To the process alone: it stops its own children in the right order, as Elasticsearch's launcher does.
        os.kill(self.pid, signal.SIGTERM)
        wait_until(lambda: not self.is_alive(), grace)
        self._kill_group()

    def kill(self) -> None:
        """SIGKILL for the process and its children; returns when they are gone."""
        if self.is_alive():
            self._kill_group()

    def _kill_group(self) -> None:
        # Each node leads its own process group, see `Node`. An empty group is fine.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        # After the signal a process keeps its port and its files for a moment.
        if not wait_until(lambda: all(group != self.pid for group, _ in _look()), _KILL_SECONDS):
            raise StackError(f"process {self.pid} still exists {_KILL_SECONDS:.0f} s after SIGKILL")


def _look(pid: int | None = None) -> Iterator[tuple[int, str]]:
    """Process group and start time of running processes, one or all, without zombies."""
    for path in [Path(f"/proc/{pid}/stat")] if pid else Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # The second field, the command in parentheses, may contain anything: count from its end.
            fields = path.read_text().rpartition(")")[2].split()
            state, group, threads, started = fields[0], int(fields[2]), int(fields[17]), fields[19]
            # The first thread of a killed JVM ends before the others, which still hold its port and files.
            if state not in "ZX" or threads > 1:
                yield group, started


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether `condition` becomes true within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


_PASSED_ON = ("PATH", "HOME", "LANG", "TZ", "JAVA_HOME", "JAVA_TOOL_OPTIONS")


def foreign_environment(**variables: str) -> dict[str, str]:
    """The environment of a program that is not ours: without the settings of this process, which hold secrets.

    Paths are UTF-8 for it, whatever the locale of this process.
    """
    found = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return found | {"LC_ALL": "C.UTF-8"} | variables


class Launch(NamedTuple):
    """How to start a node. `uid` is its user and group id; None: the current ones."""

    argv: Sequence[str]
    env: Mapping[str, str]
    """The whole environment of the process, see `foreign_environment`."""
    uid: int | None = None


def make_private(folder: Path) -> None:
    """Create a folder that this user alone can enter, or make it one: nodes keep records and control tokens there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid == os.geteuid():
        folder.chmod(0o700)


class Node(ABC):
    """A broker or Elasticsearch on this machine: started, stopped, killed, restarted on the same port with its data.

    Args:
        directory: configuration, data and log of the node.
        die_with_parent: the operating system stops the node when this process ends, however it ends. Off for a node
            that outlives the command that started it.
    """

    name: ClassVar[str]
    seconds_to_ready: ClassVar[float]
    """Timeout for a node to become ready."""

    def __init__(self, directory: Path, *, die_with_parent: bool = True) -> None:
        self.directory = directory.absolute()
        self.die_with_parent = die_with_parent
        self.log_path = self.directory / f"{self.name}.log"
        self.process_id: ProcessId | None = None
        self._child: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def prepare(self) -> Launch:
        """Write the configuration of the node and return how to start it. Called before each start."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether the node responds now. An OSError counts as no."""

    @property
    @abstractmethod
    def endpoints(self) -> dict[str, str]:
        """Addresses of the node: `kafka` as host:port, `elasticsearch` as a URL."""

    def start(self) -> None:
        """Start and wait until the node responds.

        Raises:
            StackError: it did not start, or isn't ready in time; with the end of its log.
        """
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start without waiting, so that several nodes can start at the same time."""
        if self.is_alive():
            raise StackError(f"{self.name} runs already, as process {self.process_id and self.process_id.pid}")
        for address in self.endpoints.values():
            if is_listening(port := int(address.rpartition(":")[2])):
                raise StackError(f"{self.name} can't start: port {port} is in use")
        make_private(self.directory)
        launch = self.prepare()
        self._child = _launcher().submit(self._spawn, launch).result()
        self.process_id = ProcessId.of(self._child.pid)

    def wait_ready(self) -> None:
        """Wait until the node responds; fails at once if its process exits.

        Raises:
            StackError: it ended, or isn't ready in time; with the end of its log.
        """

        def ready() -> bool:
            if not self.is_alive():
                self._reap()
                raise StackError(f"{self.name} ended before it was ready.\n{self.log_tail()}")
            try:
                return self.is_ready()
            except OSError:
                return False

        if not wait_until(ready, self.seconds_to_ready):
            self.kill()
            raise StackError(f"{self.name} was not ready after {self.seconds_to_ready:.0f} s.\n{self.log_tail()}")

    def is_alive(self) -> bool:
        return self.process_id is not None and self.process_id.is_alive()

    def stop(self, grace: float = 30.0) -> None:
        """SIGTERM, then SIGKILL after `grace` seconds. Does nothing if the node is down."""
        if self.process_id is not None:
            self.process_id.stop(grace)
        self._reap()

    def kill(self) -> None:
        """SIGKILL, like a crash."""
        if self.process_id is not None:
            self.process_id.kill()
        self._reap()

    def restart(self, *, hard: bool = False) -> None:
        """Stop (kill if `hard`) and start again on the same port with the same data."""
        if hard:
            self.kill()
        else:
            self.stop()
        self.start()

    def log_tail(self) -> str:
        try:
            lines = self.log_path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        except FileNotFoundError:
            lines = []
        return "\n".join([f"The end of {self.log_path}:", *(f"  {line}" for line in lines)])

    def _spawn(self, launch: Launch) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                launch.argv,
                cwd=self.directory,
                env=launch.env,
                umask=0o077,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Its own process group: Ctrl-C reaches this process alone, which stops nodes in the right order.
                start_new_session=True,
                user=launch.uid,
                group=launch.uid,
                extra_groups=None if launch.uid is None else [],
                preexec_fn=end_with_parent if self.die_with_parent else None,
            )

    def _reap(self) -> None:
        if self._child is not None:
            self._child.wait(timeout=_KILL_SECONDS)
            self._child = None


@cache
def _launcher() -> ThreadPoolExecutor:
    # "Die with the parent" means the thread that started the child: a node restarted from a short-lived
    # thread would stop as soon as that thread ends. This thread lives as long as the process.
    return ThreadPoolExecutor(1, thread_name_prefix="stack-launcher")


_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def end_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def is_listening(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a program accepts connections on this port."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


_PORTS = range(15_000, 31_384)
_PORTS_OF_A_PROCESS = 256
_next_port = itertools.count(random.randrange(_PORTS_OF_A_PROCESS))


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free, and that is unlikely to be taken before a node listens on it.

    It is below the ephemeral ports of the operating system, since a node may start to listen much later, and releases
    its port while it restarts. Each process has its own range, so that two processes do not choose the same port.

    Raises:
        StackError: all ports of the range are in use.
    """
    start = _PORTS.start + os.getpid() * _PORTS_OF_A_PROCESS % len(_PORTS)
    for _ in range(_PORTS_OF_A_PROCESS):
        port = start + next(_next_port) % _PORTS_OF_A_PROCESS
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((host, port))
            return port
    raise StackError(f"no port from {start} to {start + _PORTS_OF_A_PROCESS - 1} is free")


def usable_port(wanted: int) -> int:
    """The port that is wanted, unless somebody listens on it or it is 0; else a free one.

    Raises:
        StackError: see `free_port`.
    """
    if wanted:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", wanted)):
            return wanted
    return free_port()

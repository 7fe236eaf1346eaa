"""A child process that opens one version and answers with it: started, asked within limits, ended."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic
from typing import TypeVar

import msgspec

from machine_learning_engineering.core.model import Model
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.trial import MAX_MEMORY_BYTES, bare_environment, local_copy
from stream_app.shadow import frames
from stream_app.shadow.frames import HEADER, MAX_FRAME_BYTES, Opened, Question, Reply, Task

OPEN_SECONDS = 120.0
"""Time to import the libraries and to open the version."""
NICE = 10
TICK_SECONDS = 0.1
"""Interval at which a child that works is looked at."""
_T = TypeVar("_T")
_CHUNK = 1 << 20
_PROGRAM = "from stream_app.shadow.child import main; main()"
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ShadowEnded(Exception):
    """The child has ended, or had to be. `by_model` tells whether its model is to blame."""

    def __init__(self, what: str, *, by_model: bool = True) -> None:
        super().__init__(what)
        self.by_model = by_model


class ShadowProcess:
    """A child that has a version open. One thread uses it, and the child ends with that thread.

    Args:
        registry: where the version is.
        name: of the model.
        version: the version.
        model_class: its class.
        timeout: seconds for one question.
        memory_bytes: resident memory of the child.
        is_stopping: ends a wait early.

    Raises:
        RegistryError, OSError: the version can't be read.
        ShadowEnded: the child can't open it.
    """

    def __init__(
        self,
        registry: Registry,
        name: str,
        version: str,
        model_class: type[Model],
        *,
        timeout: float,
        memory_bytes: int,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._timeout, self._memory_bytes, self._is_stopping = timeout, memory_bytes, is_stopping
        # The child checks digests; what it has no key for is checked here.
        registry.check(name, version, model_class)
        self._resources = ExitStack()
        self.pid = 0
        try:
            folder = self._resources.enter_context(local_copy(registry, name, version))
            self._connection = self._resources.enter_context(self._start())
            limit = max(MAX_MEMORY_BYTES, 2 * memory_bytes)
            module, of_class = model_class.__module__, model_class.__qualname__
            task = Task(module, of_class, str(folder), name, version, limit, NICE)
            opened: Opened = self._ask(task, frames.decode_opened, monotonic() + OPEN_SECONDS)
            if opened.problem:
                raise ShadowEnded(opened.problem)
        except BaseException:
            self.close()
            raise

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            threads = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB")}
            self._process = subprocess.Popen(
                # -P: only the paths of this process count.
                [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno()), str(os.getpid())],
                env={**bare_environment(), **threads, "PYTHONPATH": os.pathsep.join(sys.path)},
                stdin=subprocess.DEVNULL,
                # What a model prints may hold values of requests.
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self.pid = self._process.pid
        return ours

    def ask(self, features: list[bytes]) -> Reply:
        """Have rows predicted.

        Raises:
            ShadowEnded: there is no answer, and the child is gone.
        """
        reply: Reply = self._ask(Question(features), frames.decode_reply, monotonic() + self._timeout)
        rows = len(features)
        if len(reply.predictions) != rows or any(not 0 <= failure.row < rows for failure in reply.failures):
            raise self._ended("answered with other rows")
        if not frames.are_json(reply.predictions):
            raise self._ended("answered with something other than JSON")
        return reply

    def memory(self) -> int:
        """Resident memory of the child in bytes; 0 if it is unknown."""
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE
        except (OSError, ValueError, IndexError):
            return 0

    def has_ended(self) -> bool:
        """Whether it ended while it was not asked. Nothing else may reap it."""
        return self.pid == 0 or os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def close(self) -> None:
        """End the child, whatever it does."""
        if self.pid:
            # It has a group of its own, with what it may have started.
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
            self.pid = 0
        self._resources.close()

    def _ask(self, message: msgspec.Struct, decode: Callable[[bytes], _T], deadline: float) -> _T:
        poll = select.poll()
        poll.register(self._connection, select.POLLIN | select.POLLOUT)
        waiting = memoryview(frames.frame(message))
        received = bytearray()
        wanted: int | None = None
        try:
            while True:
                self._require_within_limits(deadline)
                for _, events in poll.poll(TICK_SECONDS * 1000):
                    if waiting and events & select.POLLOUT:
                        waiting = waiting[self._connection.send(waiting[:_CHUNK]) :]
                    if not waiting:
                        poll.modify(self._connection, select.POLLIN)
                    if events & (select.POLLIN | select.POLLHUP | select.POLLERR):
                        chunk = self._connection.recv(_CHUNK)
                        if not chunk:
                            raise self._ended(self.exit())
                        received += chunk
                if wanted is None and len(received) >= HEADER.size:
                    (wanted,) = HEADER.unpack_from(received)
                    if wanted > MAX_FRAME_BYTES:
                        raise self._ended("answered with too much")
                if wanted is not None and len(received) >= HEADER.size + wanted:
                    return decode(bytes(memoryview(received)[HEADER.size :]))
        except BlockingIOError:
            raise self._ended("does not read") from None
        except OSError:
            raise self._ended(self.exit()) from None
        except ValueError:
            raise self._ended("answered with what can't be read") from None

    def _require_within_limits(self, deadline: float) -> None:
        if self._is_stopping():
            raise self._ended("stopped", by_model=False)
        if monotonic() > deadline:
            raise self._ended("took too long")
        if (memory := self.memory()) > self._memory_bytes:
            raise self._ended(f"took {memory:,} bytes of memory; {self._memory_bytes:,} are allowed")

    def exit(self) -> str:
        """End it, and say how it ended."""
        # One that has ended by itself keeps its exit code.
        self.close()
        code = self._process.returncode
        return f"ended with signal {-code}" if code < 0 else f"ended with exit code {code}"

    def _ended(self, what: str, *, by_model: bool = True) -> ShadowEnded:
        self.close()
        return ShadowEnded(what, by_model=by_model)

"""One process of a deployment, started again whenever it ends."""

import asyncio
import contextlib
import os
import signal
import time
import urllib.request

from inflight.errors import UNAVAILABLE
from inflight.stack.process import end_with_parent
from inflight.supervisor.output import Output
from inflight.supervisor.specs import ProcessSpec

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before the first restart, and the most that the pause grows to, doubling each time."""
STABLE_SECONDS = 60.0
"""A process that ran for this long begins with the first pause again."""
_POLL_SECONDS = 0.25
_CHUNK, _LONGEST_LINE = 64 * 1024, 1024 * 1024


class NotStarted(RuntimeError):
    """A process ended before it was ever ready, because something outside of it is wrong; its log says what."""


class ManagedProcess:
    """A process that is to run until it is stopped.

    Args:
        spec: how to start it.
        output: gets its log and what happens to it.
    """

    def __init__(self, spec: ProcessSpec, output: Output) -> None:
        self.spec = spec
        self.ready = asyncio.Event()
        """Set once it was ready for the first time."""
        self._output = output
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Run it until `stop`, again and again.

        Raises:
            NotStarted: it ended with code 2 before it was ever ready: a restart would not help.
        """
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._run_once(began)
            if self._stopping.is_set():
                return
            if code == UNAVAILABLE and not self.ready.is_set():
                raise NotStarted(self.spec.name)
            if time.monotonic() - began >= STABLE_SECONDS:
                pause = FIRST_PAUSE
            why = f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"
            self._event(f"ended with {why}; starts again in {pause:g} s", "process_ended", cause=why, pause=pause)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL after `grace` seconds; returns when the process has ended."""
        self._stopping.set()
        process = self._process
        if process is None or process.returncode is not None:
            return
        self.signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), grace)
        except TimeoutError:
            self._event(f"did not stop within {grace:g} s; killed", "process_killed", cause="timeout")
            self.signal(signal.SIGKILL)
            await process.wait()

    def signal(self, number: int) -> None:
        """Send a signal to the process, SIGKILL to its children as well."""
        if self._process is None or self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            if number == signal.SIGKILL:
                os.killpg(self._process.pid, number)
            else:
                self._process.send_signal(number)

    async def _run_once(self, began: float) -> int:
        process = self._process = await asyncio.create_subprocess_exec(
            *self.spec.argv,
            env=self.spec.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            # Its own group: Ctrl-C reaches the supervisor alone, which stops the processes in order.
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        self._event(f"started, pid {process.pid}", "process_started", pid=process.pid)
        assert process.stdout is not None
        watching = asyncio.create_task(self._watch(began))
        copying = asyncio.create_task(self._copy(process.stdout))
        try:
            code = await process.wait()
            # What it has written is still in the pipe; a child of its own could keep that open for ever.
            await asyncio.wait((copying,), timeout=1.0)
        finally:
            watching.cancel()
            copying.cancel()
        return code

    async def _watch(self, began: float) -> None:
        while not await asyncio.to_thread(self._is_ready):
            await asyncio.sleep(_POLL_SECONDS)
        seconds = round(time.monotonic() - began, 1)
        self.ready.set()
        self._event(f"ready after {seconds:g} s", "process_ready", seconds=seconds, metrics=self.spec.metrics_url)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(self.spec.metrics_url, timeout=2) as response:  # noqa: S310 - our own process
                return self.spec.ready_when.search(response.read().decode()) is not None
        except OSError:
            return False

    async def _copy(self, stream: asyncio.StreamReader) -> None:
        pending = b""
        while chunk := await stream.read(_CHUNK):
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                self._output.line(self.spec.name, line)
            if len(pending) > _LONGEST_LINE:
                self._output.line(self.spec.name, pending)
                pending = b""
        if pending:
            self._output.line(self.spec.name, pending)

    def _event(self, message: str, event: str, **fields: object) -> None:
        self._output.event(message, event, self.spec.name, **fields)

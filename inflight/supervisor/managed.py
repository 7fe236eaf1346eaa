"""One process of a deployment, started again whenever it ends."""

import asyncio
import contextlib
import os
import signal
import time

from inflight.errors import UNAVAILABLE
from inflight.stack.process import end_with_parent
from inflight.supervisor.output import Output
from inflight.supervisor.specs import ProcessSpec, serves

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"""Seconds before the first restart, and the most that the pause grows to, doubling each time."""
STABLE_SECONDS = 60.0
"""A process that ran for this long begins with the first pause again."""
_POLL_SECONDS = 0.25
_TURN_SECONDS = 60.0
_CHUNK, _LONGEST_LINE = 64 * 1024, 1024 * 1024


class NotStarted(RuntimeError):
    """A process ended before it was ever ready, because something outside of it is wrong; its log says what."""


class ManagedProcess:
    """A process that is to run until it is stopped.

    Args:
        spec: how to start it.
        output: gets its log and what happens to it.
        turn: shared by processes that start one after the other, each when the one before is ready.
    """

    def __init__(self, spec: ProcessSpec, output: Output, turn: asyncio.Lock) -> None:
        self.spec = spec
        self.ready = asyncio.Event()
        """Set once it was ready for the first time."""
        self._output = output
        self._turn = turn
        self._process: asyncio.subprocess.Process | None = None
        self._copying: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Run it until `stop`, again and again.

        Raises:
            NotStarted: it ended with code 2 before it was ever ready: a restart would not help.
        """
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            # Where one joins its group while partitions are being assigned, the embedded broker leaves the whole group
            # without any for minutes.
            async with self._turn:
                if self._stopping.is_set():
                    return
                began = time.monotonic()
                process = await self._start()
                if self._stopping.is_set():
                    # `stop` came while it started, and did not see it.
                    await self.stop(0)
                watching = asyncio.create_task(self._watch(began))
                ended = asyncio.create_task(process.wait())
                await asyncio.wait((watching, ended), timeout=_TURN_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            code = await ended
            watching.cancel()
            await self._finish_copying()
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

    async def _start(self) -> asyncio.subprocess.Process:
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
        assert process.stdout is not None
        self._event(f"started, pid {process.pid}", "process_started", pid=process.pid)
        self._copying = asyncio.create_task(self._copy(process.stdout))
        return process

    async def _finish_copying(self) -> None:
        """Print what an ended process has written; a child of its own could keep the pipe open for ever."""
        if self._copying is not None:
            await asyncio.wait((self._copying,), timeout=1.0)
            self._copying.cancel()

    async def _watch(self, began: float) -> None:
        while not await asyncio.to_thread(self._is_ready):
            await asyncio.sleep(_POLL_SECONDS)
        seconds = round(time.monotonic() - began, 1)
        self.ready.set()
        self._event(f"ready after {seconds:g} s", "process_ready", seconds=seconds, metrics=self.spec.metrics_url)

    def _is_ready(self) -> bool:
        try:
            return serves(self.spec.metrics_url, self.spec.ready_when)
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

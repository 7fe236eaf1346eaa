"""Runs a training in a process of its own, which is killed at its deadline or when this process stops."""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress

import msgspec

from inflight.retrainer.job import Answer, Job, Result, Step
from inflight.stack.process import end_with_parent
from inflight.supervisor.specs import command_line

COMMAND = "retrain-one"
_decode: Callable[[bytes], Answer] = msgspec.json.Decoder(Answer).decode
_POLL_SECONDS = 0.2
_MAX_ANSWER = 1024 * 1024


class Interrupted(RuntimeError):
    """This process has to stop; the run is taken up again later."""


def run(
    job: Job,
    *,
    seconds: float,
    on_progress: Callable[[str], None],
    stopping: Callable[[], bool] = lambda: False,
    environment: dict[str, str] | None = None,
) -> Result:
    """Train, at most for so long.

    Args:
        seconds: Until it is killed.
        stopping: Asked several times a second.
        environment: Added to that of this process.

    Raises:
        Interrupted: It was killed because this process has to stop.
    """
    deadline = time.monotonic() + seconds
    process = subprocess.Popen(
        command_line(COMMAND),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
        preexec_fn=end_with_parent,
    )
    try:
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write(msgspec.json.encode(job))
            process.stdin.close()
        return _answers(process, deadline, on_progress, stopping)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _answers(
    process: "subprocess.Popen[bytes]",
    deadline: float,
    on_progress: Callable[[str], None],
    stopping: Callable[[], bool],
) -> Result:
    assert process.stdout is not None
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if stopping():
                raise Interrupted
            if time.monotonic() > deadline:
                return Result(outcome="timed_out", reason="it was killed at the deadline of its policy")
            if not selector.select(_POLL_SECONDS):
                continue
            chunk = os.read(process.stdout.fileno(), 64 * 1024)
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                answer = _read(line)
                if isinstance(answer, Result):
                    return answer
                on_progress(answer.text)
            if not chunk or len(pending) > _MAX_ANSWER:
                return Result(outcome="failed", reason=f"its process ended with {_end(process)}, without a result")


def _read(line: bytes) -> Answer:
    try:
        return _decode(line)
    except (ValueError, RecursionError):
        return Step("")


def _end(process: "subprocess.Popen[bytes]") -> str:
    with suppress(subprocess.TimeoutExpired):
        code = process.wait(5)
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"
    return "no exit code"

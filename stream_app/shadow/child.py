"""The child process of a shadow: opens a version and answers one question after the other, within limits.

It has none of the worker's settings and secrets, one thread, a lower priority, and ends with the worker.
"""

import ctypes
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

from msgspec import Raw

from machine_learning_engineering.core.error_text import describe_origin
from machine_learning_engineering.core.faults import FaultRetry, MachineFaultError
from machine_learning_engineering.core.predict import predict_or_bisect
from machine_learning_engineering.core.threads import cap_numeric_threads
from machine_learning_engineering.core.validation import rejection_message
from machine_learning_engineering.events.schemas import MAX_ERROR_CHARACTERS
from machine_learning_engineering.events.topics import MEBIBYTE
from machine_learning_engineering.registry.manifest import RegistryError
from machine_learning_engineering.registry.registry import Registry
from stream_app.shadow import frames
from stream_app.shadow.frames import Failure, Opened, Question, Reply, Task

MAX_PREDICTION_BYTES = MEBIBYTE
FAULT_SECONDS = 1.0
"""A shadow does not wait for a machine as long as a champion does: it would only be late."""
_PR_SET_PDEATHSIG = 1
_OOM_FIRST = "1000"


def main() -> None:
    """Answer questions from the socket whose descriptor is the first argument, until the other end closes it."""
    parent = int(sys.argv[2])
    _end_with(parent)
    with socket.socket(fileno=int(sys.argv[1])) as connection, connection.makefile("rb") as stream:
        content = frames.read_frame(stream.read)
        if content is None:
            return
        task = frames.decode_task(content)
        _limit(task)
        try:
            model = _open(task)
        except Exception as error:
            problem = str(error) if isinstance(error, RegistryError) else describe_origin(error)
            connection.sendall(frames.frame(Opened(problem[:MAX_ERROR_CHARACTERS] or type(error).__name__)))
            return
        connection.sendall(frames.frame(Opened()))
        while (content := frames.read_frame(stream.read)) is not None:
            connection.sendall(frames.frame(answer(model, frames.decode_question(content), task.name)))


def answer(model: Any, question: Question, name: str) -> Reply:
    """Decode and predict all rows, as the scorer does. Whatever the model raises fails its row."""
    predictions = [b""] * len(question.features)
    failures: list[Failure] = []
    rows: list[int] = []
    decoded: list[Any] = []
    for row, features in enumerate(question.features):
        try:
            decoded.append(model.decode(Raw(features)))
        except ValueError as refused:
            failures.append(Failure(row, "invalid_features", rejection_message(refused)[:MAX_ERROR_CHARACTERS]))
        except Exception as mistake:
            failures.append(Failure(row, "prediction_error", _what(name, "decode", mistake)))
        else:
            rows.append(row)
    return Reply(predictions, failures, _predict(model, name, rows, decoded, predictions, failures))


def _predict(
    model: Any,
    name: str,
    rows: Sequence[int],
    decoded: Sequence[Any],
    predictions: list[bytes],
    failures: list[Failure],
) -> float:
    """Fill in predictions and failures; returns the seconds of the calls."""
    seconds = 0.0
    answered = 0
    retry = FaultRetry(FAULT_SECONDS)
    try:
        for call in predict_or_bisect(model, decoded, max_bytes=MAX_PREDICTION_BYTES, retry=retry):
            seconds += call.seconds
            answered = call.rows.stop
            if call.error is None:
                for row, encoded in zip(rows[call.rows], call.encoded, strict=True):
                    predictions[row] = encoded
            else:
                failures.append(Failure(rows[call.rows.start], "prediction_error", _what(name, "predict", call.error)))
    except MachineFaultError as error:
        what = f"model {name}: predict {error}"[:MAX_ERROR_CHARACTERS]
        failures += [Failure(row, "prediction_error", what) for row in rows[answered:]]
    return seconds


def _what(name: str, method: str, error: Exception) -> str:
    # Type and place only: a model's message may quote the features.
    return f"model {name}: {method} raised {describe_origin(error)}"


def _open(task: Task) -> Any:
    model_class = attrgetter(task.model_class)(import_module(task.module))
    model: Any = Registry(Path(task.folder)).open(task.name, task.version, model_class=model_class)
    # After the import of what the model needs: the limit holds for libraries that are loaded.
    cap_numeric_threads()
    return model


def _limit(task: Task) -> None:
    os.nice(task.nice)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = task.address_bytes if hard == resource.RLIM_INFINITY else min(task.address_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        # Where a machine runs out of memory, this process goes first and not the worker.
        Path("/proc/self/oom_score_adj").write_text(_OOM_FIRST)
    except OSError:
        return


def _end_with(parent: int) -> None:
    """Die when the parent does, also in the middle of a prediction."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # It has died before that.
        time.sleep(0)
        os._exit(0)

"""An interpreter that has imported the libraries of the product, and forks a process for each request on a socket.

A request is a line of JSON (`cwd`, `env`, `argv`, `flags`) with three descriptors: standard input, output and error.
The answer is the pid of the process. Its parent is whoever adopts orphans, so the one who asks.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import runpy
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

# What takes long to import, and reads no variable while it is imported that a test may set.
PRELOADED = """
numpy scipy.stats sklearn.compose sklearn.ensemble sklearn.linear_model sklearn.pipeline sklearn.preprocessing
sklearn.feature_extraction.text sklearn.model_selection skops.io msgspec pydantic_settings confluent_kafka
confluent_kafka.admin prometheus_client elasticsearch uvicorn starlette.applications sqlalchemy alembic.command
stream_app.worker monitoring.indexer.process monitoring.exporter.process monitoring.drift.process
monitoring.labels.process monitoring.archive.process producers.gateway.process
machine_learning_engineering.training.pipeline inflight.adapters.evaluator model.diamonds.model
model.titanic.model model.reviews.model xgboost
"""
# Apache Arrow's, which comes with scikit-learn where pandas is installed; it is made for forks.
_NATIVE_THREADS = 1
_PR_SET_PDEATHSIG = 1


def serve(asked: socket.socket) -> dict[str, Any]:
    """Fork a process for each request. Returns in the forked process, with its request; ends with the socket."""
    asked.sendall(b"ready\n")
    while True:
        content, descriptors, _, _ = socket.recv_fds(asked, 1024 * 1024, 3)
        if not content:
            os._exit(0)
        pids, answer = os.pipe()
        if between := os.fork():
            # Once the process between has ended, the one who asks is the parent, and may wait for its child.
            os.waitpid(between, 0)
            asked.sendall(os.read(pids, 32))
            for one in (pids, answer, *descriptors):
                os.close(one)
            continue
        between = os.getpid()
        if pid := os.fork():
            os.write(answer, b"%d\n" % pid)
            os._exit(0)
        while os.getppid() == between:
            time.sleep(0.0005)
        os.close(pids)
        os.close(answer)
        become(request := json.loads(content), descriptors)
        asked.close()
        return request


def become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Give this process what a new one would have of its own."""
    if request["flags"]["new_session"]:
        os.setsid()
    if request["flags"]["die_with_parent"]:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    for target, source in enumerate(descriptors):
        os.dup2(source, target, inheritable=True)
    for source in descriptors:
        os.close(source)
    os.chdir(request["cwd"])
    if (umask := request["flags"]["umask"]) >= 0:
        os.umask(umask)
    os.environ.clear()
    os.environ.update(request["env"])
    time.tzset()
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = os.fdopen(0, encoding=sys.stdin.encoding)
    for number, name in ((1, "stdout"), (2, "stderr")):
        old = getattr(sys, name)
        raw = os.fdopen(number, "wb")
        stream = io.TextIOWrapper(
            raw,
            encoding=old.encoding,
            errors=old.errors,
            line_buffering=name == "stderr" or os.isatty(number),
            write_through=unbuffered,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def main() -> None:
    for name in PRELOADED.split():
        with contextlib.suppress(ModuleNotFoundError):
            # An extra that is not installed.
            importlib.import_module(name)
    threads = len(list(Path("/proc/self/task").iterdir()))
    assert threads <= 1 + _NATIVE_THREADS, "a process with threads can't be forked safely"
    gc.collect()
    gc.freeze()
    request = serve(socket.socket(fileno=int(sys.argv[1])))
    module, *arguments = request["argv"]
    sys.argv = [module, *arguments]
    sys.orig_argv = [sys.executable, *["-P"] * request["flags"]["safe_path"], "-m", module, *arguments]
    if request["flags"]["safe_path"]:
        sys.path.pop(0)
    else:
        sys.path[0] = str(Path.cwd())
    os._exit(run(module))


def run(module: str) -> int:
    """Run a module as a new interpreter would, to its end; returns the exit code.

    What the interpreter then frees takes a second, since it is all that was imported: the caller ends at once.
    """
    code: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
        if code is not None and not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except KeyboardInterrupt:
        # As a new interpreter: it ends by the signal.
        traceback.print_exc()
        sys.stderr.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return int(code or 0) & 0xFF


main()

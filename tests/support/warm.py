"""Fast starts: `python -m inflight.cli` in a process that is forked from one which has imported the libraries.

An import of scikit-learn, Faust and the rest takes three seconds of a processor, and the tests start a thousand
processes. So `subprocess` starts those of the product by `tests.support.programs.warm_interpreter`: they are processes
as any other, with a pid, signals, an environment and descriptors of their own, and children of this process. What a
fork would not be like a new interpreter for starts cold: other settings of Python or of numeric libraries, other users.

INFLIGHT_TEST_COLD=1 starts each as a user does, as `make faults` and the end-to-end tests do.
"""

import atexit
import ctypes
import functools
import inspect
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inflight.stack.process import end_with_parent

_PROGRAM = Path(__file__).parent / "programs" / "warm_interpreter.py"
_COLD_PREFIXES = ("PYTHON", "LC_", "LANG", "LD_", "OMP_", "OPENBLAS_", "MKL_", "COVERAGE_", "FAUST_", "MALLOC_")
_MODULE = "inflight.cli"
_PR_SET_CHILD_SUBREAPER = 36
_cold_execute = subprocess.Popen._execute_child  # type: ignore[attr-defined]
_parameters = inspect.signature(_cold_execute)


class _Interpreter:
    """The warm interpreter of this process."""

    def __init__(self) -> None:
        # Orphans become children of this process, which can then wait for them.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", str(_PROGRAM), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._answers = self._socket.makefile("rb")
        assert self._answers.readline() == b"ready\n", "the warm interpreter did not start"
        atexit.register(self.close)

    def start(self, request: Mapping[str, Any], descriptors: list[int]) -> int:
        """Start a process; returns its pid."""
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)
            return int(self._answers.readline())

    def close(self) -> None:
        self._answers.close()
        self._socket.close()
        self._process.wait(timeout=30)


_interpreter = functools.cache(_Interpreter)


def _arguments(args: Any) -> list[str] | None:
    """The arguments after the name of the module, if the product is started; the first says whether with -P."""
    if isinstance(args, list | tuple) and args and args[0] == sys.executable:
        rest = [os.fspath(one) for one in args[1:]]
        safe_path = rest[:1] == ["-P"]
        rest = rest[safe_path:]
        if rest[:2] == ["-m", _MODULE]:
            return ["-P" if safe_path else "", *map(str, rest[2:])]
    return None


def _is_like_ours(environment: Mapping[str, str]) -> bool:
    names = {name for name in {*environment, *os.environ} if name.startswith(_COLD_PREFIXES)}
    return all(environment.get(name) == os.environ.get(name) for name in names)


def _execute(self: Any, *positional: Any, **named: Any) -> None:
    given = _parameters.bind(self, *positional, **named).arguments
    arguments = _arguments(given["args"])
    environment = os.environ if given["env"] is None else given["env"]
    preexec = given["preexec_fn"]
    if (
        arguments is None
        or given["shell"]
        or given["executable"] is not None
        or given["pass_fds"]
        or preexec not in (None, end_with_parent)
        or any(given[one] is not None for one in ("uid", "gid", "gids"))
        or given["process_group"] not in (-1, None)
        or os.environ.get("INFLIGHT_TEST_COLD") == "1"
        or not _is_like_ours(environment)
    ):
        return _cold_execute(self, *positional, **named)
    request = {
        "argv": [_MODULE, *arguments[1:]],
        "cwd": str(given["cwd"] or Path.cwd()),
        "env": dict(environment),
        "flags": {
            "safe_path": arguments[0] == "-P",
            "new_session": bool(given["start_new_session"]),
            "die_with_parent": preexec is end_with_parent,
            "umask": given["umask"],
        },
    }
    fds = [given["p2cread"], given["c2pwrite"], given["errwrite"]]
    try:
        self.pid = _interpreter().start(request, [own if fd == -1 else fd for own, fd in enumerate(fds)])
        self._child_created = True
    finally:
        ends = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(given[one] for one in ends))
    return None


def install() -> None:
    """Start the product's processes from here on by a warm interpreter. Does nothing where it can't."""
    if sys.platform == "linux" and {"process_group", "uid", "umask"} <= _parameters.parameters.keys():
        subprocess.Popen._execute_child = _execute  # type: ignore[attr-defined]

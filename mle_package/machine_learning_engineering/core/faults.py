"""Faults of the machine, which pass, as opposed to those of a row, which do not."""

import errno
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from machine_learning_engineering.core.error_text import describe_origin, is_infrastructure_error

FAULT_SECONDS = 30.0
"""Time for which a call is repeated while it raises faults of the machine."""
MEMORY_SECONDS = 1.0
"""The same for a MemoryError while the machine has memory: then a row asks for more than there can be."""
_PROBE_BYTES = 64 * 1024 * 1024
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0

_T = TypeVar("_T")

# They depend on what the code was asked to open: a path may come from a row.
_ABOUT_PATHS = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
_ABOUT_ARGUMENTS = (errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP)
_ABOUT_STATEMENTS = (sqlite3.ProgrammingError, sqlite3.IntegrityError, sqlite3.DataError, sqlite3.NotSupportedError)
# Drivers of databases (PEP 249), HTTP, gRPC and Redis clients have types of their own, which share these names.
_NAMES = frozenset(
    (
        "ConnectError",
        "ConnectionError",
        "ConnectionTimeout",
        "InterfaceError",
        "NetworkError",
        "OperationalError",
        "RpcError",
        "Timeout",
        "TimeoutError",
        "TimeoutException",
        "TransportError",
    )
)


class MachineFaultError(RuntimeError):
    """A fault of the machine did not pass in time. The rows are not at fault: predict them again later."""


def is_machine_fault(error: BaseException) -> bool:
    """Tell whether an exception, or one that led to it, is about the machine: memory, disk, network, a database.

    Not one about a path or an argument, which a row may have caused. Where a row is at fault, raise ValueError.
    """
    return any(_is_fault(one) for one in _chain(error))


def _is_fault(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return not isinstance(error, _ABOUT_PATHS) and error.errno not in _ABOUT_ARGUMENTS
    if isinstance(error, sqlite3.Error):
        return not isinstance(error, _ABOUT_STATEMENTS)
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, MemoryError) or bool(names & _NAMES) or _is_client_error(error)


def _is_client_error(error: BaseException) -> bool:
    # A damaged version is no passing fault, and its error is the registry's own.
    return is_infrastructure_error(error) and not type(error).__module__.startswith("machine_learning_engineering")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and those that led to it."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        found = found.__cause__ or (None if found.__suppress_context__ else found.__context__)


def _asks_for_too_much(error: BaseException) -> bool:
    """Whether a call wanted more memory than the machine will ever have: other calls get some at the same time."""
    if not any(isinstance(one, MemoryError) for one in _chain(error)):
        return False
    try:
        bytearray(_PROBE_BYTES)
    except MemoryError:
        return False
    return True


class FaultRetry:
    """Repeats calls while they raise faults of the machine, for `seconds` from the first fault on, over all calls."""

    def __init__(self, seconds: float = FAULT_SECONDS) -> None:
        self._seconds = seconds
        self._until: float | None = None
        self._pause = _FIRST_PAUSE

    def __call__(self, call: Callable[[], _T]) -> _T:
        """Return what a call returns, and raise what it raises if that is no fault of the machine.

        A MemoryError is raised, too, if it stays while the machine has memory.

        Raises:
            MachineFaultError: The fault did not pass in time.
        """
        while True:
            try:
                return call()
            except Exception as error:
                if not is_machine_fault(error):
                    raise
                now = time.monotonic()
                self._until = now + self._seconds if self._until is None else self._until
                if now >= self._until - max(0.0, self._seconds - MEMORY_SECONDS) and _asks_for_too_much(error):
                    raise
                if now >= self._until:
                    what = f"raised {describe_origin(error)} for {self._seconds:g} s"
                    raise MachineFaultError(f"{what}: it is no row's fault, look at the machine") from error
                # Not in the frame of the exception, which holds the rows.
                pause, self._pause = min(self._pause, self._until - now), min(2 * self._pause, _LONGEST_PAUSE)
            time.sleep(pause)

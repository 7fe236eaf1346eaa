"""Descriptions of exceptions that hold no value of a request.

The message of an exception may quote what the code was given: a name, an address, a diagnosis. Only exceptions about
infrastructure (the network, the disk, Kafka, the registry) keep their messages. Of any other exception, only the type
and the origin are shown.
"""

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

_INFRASTRUCTURE_MODULES = (
    "cimpl",
    "confluent_kafka",
    "elastic_transport",
    "kafka.errors",
    "machine_learning_engineering.registry",
)
_MAX_FRAMES = 50
# If an error was raised in one of these, or in the standard library, the calling line is more useful.
_LIBRARIES = frozenset(("joblib", "msgspec", "numpy", "pandas", "pyarrow", "scipy", "skops", "sklearn", "xgboost"))
_STANDARD_LIBRARY = Path(traceback.__file__).parent
_INSTALLED = frozenset(("site-packages", "dist-packages"))


def type_name(error: BaseException) -> str:
    """Return the type, qualified unless it is a builtin: ``ValueError``, ``numpy.linalg.LinAlgError``."""
    kind = type(error)
    return (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )


def is_infrastructure_error(error: BaseException) -> bool:
    """Tell whether the message of an exception is about infrastructure, and therefore never quotes a request."""
    return isinstance(error, OSError) or type(error).__module__.startswith(_INFRASTRUCTURE_MODULES)


def safe_message(error: BaseException) -> str:
    """Return type and message of an infrastructure error, and the type alone of any other exception."""
    return f"{type_name(error)}: {error}" if is_infrastructure_error(error) else type_name(error)


def describe_origin(error: BaseException) -> str:
    """Return type and origin, such as ``ValueError at preprocessing.py:88 in columns``.

    The origin is the innermost frame outside numeric libraries and the standard library, if there is one. Without a
    traceback, the type is returned alone.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    own = [frame for frame in frames if not _is_library(Path(frame.filename))]
    frame = own[-1] if own else frames[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno} in {frame.name}"


def _is_library(path: Path) -> bool:
    parts = set(path.parts)
    return bool(parts & _LIBRARIES) or (path.is_relative_to(_STANDARD_LIBRARY) and not parts & _INSTALLED)


def stack_trace(error: BaseException, *, infrastructure_messages: bool = True, all_messages: bool = False) -> str:
    """Format the traceback of an exception, its causes and its group members.

    Args:
        error: The exception.
        infrastructure_messages: Include the messages of infrastructure errors.
        all_messages: Include all messages.
    """
    if all_messages:
        return "".join(traceback.format_exception(error))
    return "".join(_lines(error, safe_message if infrastructure_messages else type_name, set()))


def _lines(error: BaseException, render: Callable[[BaseException], str], seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in seen:
        yield from _lines(before, render, seen)
        yield "\nThis led to:\n\n"
    yield from _frames(error.__traceback__)
    yield render(error) + "\n"
    if isinstance(error, BaseExceptionGroup):
        for number, inner in enumerate(error.exceptions, 1):
            yield f"\nException {number} of the group:\n\n"
            yield from _lines(inner, render, seen)


def _frames(trace: TracebackType | None) -> Iterator[str]:
    if trace is not None:
        yield "Traceback (most recent call last):\n"
        # A negative limit keeps the innermost frames.
        yield from traceback.format_tb(trace, limit=-_MAX_FRAMES)

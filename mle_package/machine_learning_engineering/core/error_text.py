"""Errors in words that hold no value of a request: what was raised, and where.

The text of an exception may quote what the code was given: a name, an address, a diagnosis. Only exceptions that are
about machines (the network, the disk, Kafka, the registry) speak for themselves; of all others the type and the place
are told.
"""

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

_PLAIN_MODULES = (
    "cimpl",
    "confluent_kafka",
    "elastic_transport",
    "kafka.errors",
    "machine_learning_engineering.registry",
)
_MOST_FRAMES = 50
# Where an error came up in one of these, or in Python's own library, the line that called it tells more.
_LIBRARIES = frozenset(("joblib", "msgspec", "numpy", "pandas", "pyarrow", "scipy", "skops", "sklearn", "xgboost"))
_PYTHON = Path(traceback.__file__).parent
_INSTALLED = frozenset(("site-packages", "dist-packages"))


def type_name(error: BaseException) -> str:
    """The type, with its module where that is not Python itself: ``ValueError``, ``numpy.linalg.LinAlgError``."""
    kind = type(error)
    return (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )


def is_infrastructure_error(error: BaseException) -> bool:
    """Whether the text of an exception is about a machine, and so never about the values of a request."""
    return isinstance(error, OSError) or type(error).__module__.startswith(_PLAIN_MODULES)


def safe_message(error: BaseException) -> str:
    """The text of an exception where that is plain, else its type."""
    return f"{type_name(error)}: {error}" if is_infrastructure_error(error) else type_name(error)


def describe_origin(error: BaseException) -> str:
    """Type and place, such as ``ValueError at preprocessing.py:88 in columns``; the type alone without a traceback.

    The place is the innermost line outside of numerical libraries and Python's own, if there is one.
    """
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return type(error).__name__
    own = [frame for frame in frames if not _is_library(Path(frame.filename))]
    frame = own[-1] if own else frames[-1]
    return f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno} in {frame.name}"


def _is_library(path: Path) -> bool:
    parts = set(path.parts)
    return bool(parts & _LIBRARIES) or (path.is_relative_to(_PYTHON) and not parts & _INSTALLED)


def stack_trace(error: BaseException, *, plain: bool = True, values: bool = False) -> str:
    """The traceback of an exception and its causes.

    Args:
        plain: with the texts of exceptions that are plain.
        values: with the texts of all.
    """
    if values:
        return "".join(traceback.format_exception(error))
    return "".join(_lines(error, safe_message if plain else type_name, set()))


def _lines(error: BaseException, tell: Callable[[BaseException], str], seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in seen:
        yield from _lines(before, tell, seen)
        yield "\nFrom there came:\n\n"
    yield from _frames(error.__traceback__)
    yield tell(error) + "\n"
    if isinstance(error, BaseExceptionGroup):
        for number, inner in enumerate(error.exceptions, 1):
            yield f"\nNumber {number} of this group:\n\n"
            yield from _lines(inner, tell, seen)


def _frames(trace: TracebackType | None) -> Iterator[str]:
    if trace is not None:
        yield "Traceback (most recent call last):\n"
        # A negative limit is of the innermost frames.
        yield from traceback.format_tb(trace, limit=-_MOST_FRAMES)

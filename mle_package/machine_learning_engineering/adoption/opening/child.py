"""The process that opens a pickle: behind walls, once, and only to write it as a skops file."""

import os
import pickle
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, BinaryIO

import msgspec
from msgspec import Struct

from machine_learning_engineering.adoption.opening import compression, sandbox
from machine_learning_engineering.adoption.opening.answers import Recorded, record_all
from machine_learning_engineering.adoption.opening.refusal import Malformed, NotAllowed

SECONDS = 120
MAX_MEMORY = 4 * 1024**3
"""Addresses that the process may use, besides eight times the size of the file."""


class Task(Struct, frozen=True):
    """What the process gets: a file's content, and the rows to answer as a pickle of the parent's."""

    content: bytes
    sample: bytes = b""


class Report(Struct, frozen=True):
    """What the process gives back."""

    content: bytes = b""
    scikit_learn_versions: tuple[str, ...] = ()
    installed: str = ""
    asked_for: str = ""
    """What the file wanted that is not allowed."""
    malformed: str = ""
    other_version: bool = False
    missing: str = ""
    """A library or a name that is not there."""
    unanswered: str = ""
    walls: bool = False
    batch: dict[str, list[Recorded]] = {}
    alone: dict[str, list[list[Recorded]]] = {}


def main() -> None:
    """Read a `Task` from stdin and write a `Report` to stdout."""
    out = os.fdopen(os.dup(1), "wb")
    # What libraries print must not come between.
    os.dup2(2, 1)
    task = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Task)
    sandbox.limit(MAX_MEMORY + 8 * len(task.content), SECONDS)
    out.write(msgspec.msgpack.encode(report_on(task, sandbox.close_doors)))
    out.close()
    # Without the finalizers of what was in the file.
    os._exit(0)


def report_on(task: Task, close_doors: Callable[[], bool]) -> Report:
    """Open a pickle, ask it for the sample's answers, and write it as skops.

    Args:
        task: The pickle and the sample.
        close_doors: Is called when all that the file may need is imported, before anything in it is made.
    """
    try:
        return _open(task, close_doors)
    except NotAllowed as error:
        return Report(asked_for=str(error))
    except Malformed as error:
        return Report(malformed=str(error))
    except ImportError as error:
        return Report(missing=f"{error!s:.500}")
    except MemoryError:
        return Report(malformed="it takes more memory than its size explains")
    except RecursionError:
        return Report(malformed="it is nested too deeply")


def _open(task: Task, close_doors: Callable[[], bool]) -> Report:
    from machine_learning_engineering.adoption.opening.scan import scan

    file = compression.unpacked(task.content)
    try:
        findings = scan(file)
    except (NotAllowed, Malformed, MemoryError, RecursionError):
        raise
    except Exception as error:  # A pickle machine may raise anything on wrong bytes.
        raise Malformed(f"it is no pickle ({type(error).__name__}: {error!s:.200})") from error
    import sklearn

    versions = tuple(sorted(findings.versions))
    if any(version.split(".")[:2] != sklearn.__version__.split(".")[:2] for version in versions):
        return Report(scikit_learn_versions=versions, installed=sklearn.__version__, other_version=True)
    for name in findings.names:
        if name.module.split(".")[0] not in sys.builtin_module_names:
            import_module(name.module)
    import skops.io

    from machine_learning_engineering.registry.skops_file import unsafe_parameter

    sample = pickle.loads(task.sample) if task.sample else None  # noqa: S301 - the parent wrote it.
    import sklearn.utils.parallel
    import threadpoolctl  # noqa: F401

    walls = close_doors()
    file.seek(0)
    estimator = _build(file)
    if problem := unsafe_parameter(estimator):
        raise Malformed(f"{problem}; leave the parameter at its default, and fit the model again")
    try:
        content = skops.io.dumps(estimator)
    except Exception as error:
        raise Malformed(f"skops can't hold it ({type(error).__name__}: {error!s:.300})") from error
    report = Report(content, versions, sklearn.__version__, walls=walls)
    if sample is None:
        return report
    try:
        batch, alone = record_all(estimator, sample)
    except Exception as error:
        return msgspec.structs.replace(report, unanswered=f"{type(error).__name__}: {error!s:.500}")
    return msgspec.structs.replace(report, batch=batch, alone=alone)


def _build(file: BinaryIO) -> Any:
    from machine_learning_engineering.adoption.opening.builder import build

    try:
        return build(file)
    except (NotAllowed, Malformed, ImportError, MemoryError, RecursionError):
        raise
    except Exception as error:
        raise Malformed(f"its parts do not fit together ({type(error).__name__}: {error!s:.300})") from error

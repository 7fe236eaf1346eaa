"""What a saved model answers in a new process, such as a worker is: nothing is there that fitting left in this one."""

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct

from machine_learning_engineering.core.model import Model
from machine_learning_engineering.registry.registry import Registry

_NOT_IMPORTED = 3
_ANSWERS_FILE = "answers.json"
_PROGRAM = f"from {__name__} import answer; answer()"


class NewProcessFailed(Exception):
    """A new process could not answer; the message says why."""


class Question(Struct, frozen=True):
    """What a new process is asked; `registry` is a folder."""

    module: str
    model_class: str
    registry: str
    version: str
    requests: list[Raw]


def answers(model_class: type[Model], registry: Path, version: str, requests: Sequence[bytes]) -> list[Any] | None:
    """What a version in a registry answers to requests in a new process, as JSON values.

    It takes some seconds, for the new process loads scikit-learn and skops.

    Returns:
        One answer a request, in order; None if the class can't be imported there: it is of a notebook or a function.

    Raises:
        NewProcessFailed: the model can't be opened there, or does not answer.
    """
    if not _is_importable(model_class):
        return None
    question = Question(
        model_class.__module__, model_class.__qualname__, str(registry), version, [Raw(request) for request in requests]
    )
    done = subprocess.run(
        # -P, since the paths of this process are all that count.
        [sys.executable, "-P", "-c", _PROGRAM],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        input=msgspec.json.encode(question),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode == _NOT_IMPORTED:
        return None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or f"it ended with code {done.returncode}"
        raise NewProcessFailed(f"in a new process the saved model does not answer: {said[-500:]}")
    found: list[Any] = msgspec.json.decode((registry / _ANSWERS_FILE).read_bytes())
    return found


def answer() -> None:
    """What the new process does: it reads a `Question` and leaves the answers in the registry's folder."""
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    try:
        model_class = attrgetter(question.model_class)(import_module(question.module))
    except Exception:
        sys.exit(_NOT_IMPORTED)
    registry = Path(question.registry)
    try:
        model = Registry(registry).open(model_class.name, question.version, model_class=model_class)
        found = list(model.predict([model.decode(request) for request in question.requests]))
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")
    (registry / _ANSWERS_FILE).write_bytes(msgspec.json.encode(found))


def _is_importable(model_class: type) -> bool:
    module = model_class.__module__
    try:
        return module != "__main__" and attrgetter(model_class.__qualname__)(sys.modules[module]) is model_class
    except (KeyError, AttributeError):
        return False

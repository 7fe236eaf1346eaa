"""Predictions of a saved model in a fresh process, such as a worker: without anything that `fit` left in this one."""

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

_EXIT_NOT_IMPORTABLE = 3
_PREDICTIONS_FILE = "predictions.json"
_PROGRAM = f"from {__name__} import main; main()"


class FreshProcessFailed(Exception):
    """A fresh process could not predict. The message says why."""


class Task(Struct, frozen=True):
    """The input of the fresh process; `registry` is a folder."""

    module: str
    model_class: str
    name: str
    registry: str
    version: str
    requests: list[Raw]


def predict(model_class: type[Model], registry: Path, version: str, requests: Sequence[bytes]) -> list[Any] | None:
    """Predict requests with a version of a registry in a fresh process.

    This takes some seconds, because the process imports scikit-learn and skops.

    Returns:
        One prediction per request as JSON values, or None if the process can't import the class because a notebook or
        a function defines it.

    Raises:
        FreshProcessFailed: The model can't be opened there, or does not predict.
    """
    if not _is_importable(model_class):
        return None
    task = Task(
        model_class.__module__,
        model_class.__qualname__,
        model_class.name,
        str(registry),
        version,
        list(map(Raw, requests)),
    )
    done = subprocess.run(
        # -P: only the paths of this process count.
        [sys.executable, "-P", "-c", _PROGRAM],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        input=msgspec.json.encode(task),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode == _EXIT_NOT_IMPORTABLE:
        return None
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip() or f"it exited with code {done.returncode}"
        raise FreshProcessFailed(f"the saved model can't predict in a fresh process: {reason[-500:]}")
    found: list[Any] = msgspec.json.decode((registry / _PREDICTIONS_FILE).read_bytes())
    return found


def main() -> None:
    """Read a `Task` from stdin and write the predictions to the registry's folder. Runs in the fresh process."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    try:
        model_class = attrgetter(task.model_class)(import_module(task.module))
    except Exception:
        sys.exit(_EXIT_NOT_IMPORTABLE)
    registry = Path(task.registry)
    try:
        model = Registry(registry).open(task.name, task.version, model_class=model_class)
        found = list(model.predict([model.decode(request) for request in task.requests]))
    except Exception as error:
        sys.exit(f"{type(error).__name__}: {error}")
    (registry / _PREDICTIONS_FILE).write_bytes(msgspec.json.encode(found))


def _is_importable(model_class: type[Model]) -> bool:
    module = model_class.__module__
    try:
        found = attrgetter(model_class.__qualname__)(sys.modules[module])
    except (KeyError, AttributeError):
        return False
    # The class of a declaration is made again by the class that it is imported from.
    made_again = bool(model_class.declaration) and issubclass(model_class, found)
    return module != "__main__" and (found is model_class or made_again)

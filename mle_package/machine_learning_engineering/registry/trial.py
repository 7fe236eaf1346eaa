"""Trial of a version in a child process with limits, before this process serves it.

A file may pass all checks of the registry and still end the process that predicts with it: arrays with wrong indices
crash native code, or let it loop forever. The child opens the version and predicts one row. If the child dies, runs
out of memory or does not answer in time, the version is in quarantine: this machine does not try it again.

The verdict on a file is kept by its digest in a folder, so that each file is tried once.
"""

import hashlib
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
from msgspec import NODEFAULT, Struct, inspect

from machine_learning_engineering.core import files
from machine_learning_engineering.core.model import Model
from machine_learning_engineering.core.validation import InvalidFeatures
from machine_learning_engineering.registry import artifacts
from machine_learning_engineering.registry.manifest import CorruptModel, RegistryError
from machine_learning_engineering.registry.registry import Registry

MAX_MEMORY_BYTES = 8 * 1024**3
"""Address space of the child. Libraries reserve a few GiB that they do not use."""
MAX_CPU_SECONDS = 30
TIMEOUT = 120.0
"""Seconds until a child that does not end is stopped."""
_NOT_IMPORTABLE = 3
_REFUSED = 4
_PASSED = b"passed"
_SECRETS = ("INFLIGHT_", "AWS_", "AZURE_", "GOOGLE_")
_PROGRAM = f"from {__name__} import main; main()"


class VersionInQuarantine(CorruptModel):
    """The version ended the process that tried it. The message names the file to remove for another trial."""


class _Task(Struct, frozen=True):
    module: str
    model_class: str
    registry: str
    name: str
    version: str
    cpu_seconds: int
    memory_bytes: int


class Trials:
    """Verdicts on the files of a registry.

    Args:
        registry: The registry.
        folder: Where verdicts are kept; created if it is missing. If it can't be written, each trial is repeated.
    """

    def __init__(self, registry: Registry, folder: Path) -> None:
        self._registry = registry
        self._folder = folder
        self._refused: dict[Path, CorruptModel] = {}

    def require(self, name: str, version: str, model_class: type[Model]) -> None:
        """Try a version unless its file was tried before.

        A version whose class a child can't import, because a notebook or a function defines it, is not tried.

        Raises:
            VersionInQuarantine: It ended the process that tried it, now or earlier.
            RegistryError: It can't be opened.
        """
        path = self._verdict(name, version)
        if path in self._refused:
            raise self._refused[path]
        try:
            verdict = path.read_bytes()
        except OSError:
            self._registry.check(name, version, model_class)
            try:
                verdict = _try(self._registry, name, version, model_class)
                if verdict != _PASSED:
                    # Once more: the machine may have been short of memory.
                    verdict = _try(self._registry, name, version, model_class)
            except CorruptModel as error:
                # Not on disk: the code may be updated. But not again by this process, which has the same code.
                self._refused[path] = error
                raise
            self._keep(path, verdict)
        if verdict != _PASSED:
            raise VersionInQuarantine(
                f"model `{name}` {version} ended the process that tried it ({verdict.decode(errors='replace')}); it is "
                f"not served: promote another version, run inflight train {name}, or remove {path} for another trial"
            )

    def pass_(self, name: str, version: str) -> None:
        """Record that a version needs no trial, because this process has just predicted with it."""
        self._keep(self._verdict(name, version), _PASSED)

    def _verdict(self, name: str, version: str) -> Path:
        manifest = self._registry.manifest(name, version)
        files_of_version = sorted((file, stored.sha256) for file, stored in manifest.files.items())
        digest = hashlib.sha256(repr(files_of_version).encode()).hexdigest()
        return self._folder / f"{name}-{version}-{digest[:32]}"

    def _keep(self, path: Path, verdict: bytes) -> None:
        try:
            files.make_folder(self._folder)
            files.replace(path, verdict)
        except OSError:
            # A read-only home: the trial is repeated by each process.
            return


def _try(registry: Registry, name: str, version: str, model_class: type[Model]) -> bytes:
    """Open a version in a child process and predict a row. Returns the verdict.

    Raises:
        RegistryError: The child can't open it.
    """
    with local_copy(registry, name, version) as folder:
        return _try_in(folder, name, version, model_class)


@contextmanager
def local_copy(registry: Registry, name: str, version: str) -> Iterator[Path]:
    """A registry in a folder with this version, so that the child needs neither a network nor a key."""
    if isinstance(registry.place, Path):
        yield registry.path.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="inflight-trial-") as folder:
        artifacts.copy(registry.files, registry.manifest(name, version), Path(folder) / name / version)
        yield Path(folder)


def _try_in(folder: Path, name: str, version: str, model_class: type[Model]) -> bytes:
    task = _Task(
        model_class.__module__,
        model_class.__qualname__,
        str(folder),
        name,
        version,
        MAX_CPU_SECONDS,
        MAX_MEMORY_BYTES,
    )
    try:
        done = subprocess.run(
            # -P: only the paths of this process count.
            [sys.executable, "-P", "-c", _PROGRAM],
            # Threads reserve address space, and one row needs none.
            env={**bare_environment(), "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
            input=msgspec.json.encode(task),
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {TIMEOUT:.0f} s".encode()
    if done.returncode in (0, _NOT_IMPORTABLE):
        return _PASSED
    said = done.stderr.decode(errors="replace").strip()[-500:]
    if done.returncode == _REFUSED:
        raise CorruptModel(said or f"model `{name}` {version} can't be opened")
    if done.returncode < 0:
        return f"signal {-done.returncode}".encode()
    return f"exit code {done.returncode}".encode()


def bare_environment() -> dict[str, str]:
    """The environment of this process without Inflight's settings and the clouds', which may hold secrets."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_SECRETS)}


def main() -> None:
    """Read a `_Task` from stdin, open its version and predict a row within limits. Runs in the child."""
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=_Task)
    try:
        model_class = attrgetter(task.model_class)(import_module(task.module))
    except Exception:
        sys.exit(_NOT_IMPORTABLE)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, task.cpu_seconds)
    _limit(resource.RLIMIT_AS, task.memory_bytes)
    try:
        model = Registry(Path(task.registry)).open(task.name, task.version, model_class=model_class)
    except RegistryError as error:
        sys.stderr.write(str(error))
        sys.exit(_REFUSED)
    try:
        row = model.decode(msgspec.json.encode(sample_request(model.Features)))
        model.predict([row])
    except InvalidFeatures:
        pass  # The class checks more than its schema says: no row is known that it accepts.
    except MemoryError:
        raise
    except Exception:
        # A row that a model can't predict is a failed request, not a dead worker.
        return


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    wanted = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (wanted, wanted))


def sample_request(features: type[Struct]) -> dict[str, Any]:
    """Make a small request that fits a schema: the least value of each required field, defaults left out."""
    return {
        field.encode_name: _sample(inspect.type_info(field.type))
        for field in msgspec.structs.fields(features)
        if field.default is NODEFAULT and field.default_factory is NODEFAULT
    }


def _sample(info: inspect.Type) -> Any:
    if isinstance(info, inspect.Metadata):
        return _sample(info.type)
    if isinstance(info, inspect.UnionType):
        return _sample(next((one for one in info.types if not isinstance(one, inspect.NoneType)), info.types[0]))
    if isinstance(info, inspect.LiteralType):
        return info.values[0]
    if isinstance(info, inspect.EnumType):
        return next(iter(info.cls)).value
    if isinstance(info, inspect.BoolType):
        return False
    if isinstance(info, inspect.IntType | inspect.FloatType):
        return _number(info)
    if isinstance(info, inspect.StrType):
        return "a" * (info.min_length or 1)
    if isinstance(info, inspect.ListType | inspect.VarTupleType | inspect.SetType | inspect.FrozenSetType):
        return [_sample(info.item_type)] * (info.min_length or 0)
    if isinstance(info, inspect.TupleType):
        return [_sample(one) for one in info.item_types]
    if isinstance(info, inspect.StructType):
        return sample_request(info.cls)
    return {} if isinstance(info, inspect.DictType) else None


def _number(info: inspect.IntType | inspect.FloatType) -> int | float:
    if info.ge is not None:
        return info.ge
    if info.gt is not None:
        return info.gt + 1 if info.lt is None and info.le is None else _between(info)
    if info.le is not None:
        return info.le
    return 0 if info.lt is None else info.lt - 1


def _between(info: inspect.IntType | inspect.FloatType) -> int | float:
    assert info.gt is not None
    high = info.lt if info.lt is not None else info.le
    assert high is not None
    return info.gt + 1 if isinstance(info, inspect.IntType) else (info.gt + high) / 2

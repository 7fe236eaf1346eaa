"""Shrink the environment that runs this to what its processes use, and compile that: its root will be read-only.

Removed: tests, headers and type stubs of libraries, and the part of Arrow that speaks Flight. Nothing is
changed in place: `strip` breaks libraries that auditwheel has edited.
"""

import importlib
import json
import pkgutil
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

UNUSED = (
    "*/include",
    "pyarrow/src",
    "pyarrow/*flight*",
    "swagger_ui_bundle/vendor/*/*.map",
    "swagger_ui_bundle/vendor/*/*-es-bundle*",
)
STUBS = {".pyi", ".pxd", ".pxi", ".pyx", ".h", ".hpp", ".c", ".cpp", ".a"}
# numpy.testing, which scikit-learn and SciPy import, needs two files of tests.
KEPT = ("numpy/_core/tests/__init__.py", "numpy/_core/tests/_natype.py")
OURS = ("inflight", "machine_learning_engineering")
ROOMS = ("model", "monitoring", "producers", "stream_app")
LATE = (
    "optuna",
    "psycopg",
    "pyarrow.parquet",
    "sklearn.calibration",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.feature_extraction.text",
    "sklearn.impute",
    "sklearn.linear_model",
    "sklearn.pipeline",
    "sklearn.preprocessing",
    "skops.io",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
    "xgboost",
)
"""Imported when they are first needed."""


def trim(packages: Path) -> int:
    """Remove files from a folder of packages; the number of bytes that this freed."""
    before = _size(packages)
    for pattern in UNUSED:
        for path in packages.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in [path for path in packages.rglob("*") if path.is_file()]:
        inside = path.relative_to(packages)
        if path.suffix == ".pyc":
            path.unlink()
        elif inside.parts[0] in OURS or str(inside) in KEPT or ".dist-info" in inside.parts[0]:
            continue
        elif "tests" in inside.parts[:-1] or path.suffix in STUBS:
            path.unlink()
    return before - _size(packages)


def imported() -> Iterator[str]:
    """Import everything of ours and what that imports; the files of these modules. A broken library raises here."""
    for package in (*OURS, *ROOMS):
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if not module.name.endswith("__main__") and ".migrations." not in module.name:
                # What is missing belongs to an extra that this image does not have.
                with suppress(ModuleNotFoundError, ImportError):
                    importlib.import_module(module.name)
    for name in LATE:
        with suppress(ModuleNotFoundError):
            importlib.import_module(name)
    for module in list(sys.modules.values()):
        if (file := getattr(module, "__file__", None)) and file.endswith(".py"):
            yield file


def compile_imported() -> int:
    """Compile those of the modules that lie in this environment; how many. Others are compiled when needed."""
    # In another process, which imports what is on the disk now.
    command = [sys.executable, "-P", __file__, "--imported"]
    files = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    inside = [file for file in files if file.startswith(sys.prefix)]
    for file in inside:
        # Not by time: a layer that is copied may have other times.
        py_compile.compile(file, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    return len(inside)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


if __name__ == "__main__":
    if sys.argv[1:] == ["--imported"]:
        sys.dont_write_bytecode = True
        print(json.dumps(sorted(imported())))  # noqa: T201
    else:
        site_packages = Path(sysconfig.get_path("purelib"))
        freed, compiled = trim(site_packages), compile_imported()
        left = _size(site_packages)
        print(f"trimmed {freed / 1e6:.0f} MB, compiled {compiled} modules, {left / 1e6:.0f} MB are left")  # noqa: T201

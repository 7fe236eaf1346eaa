"""Removal of what trainings and retrainings left on disk, by age.

Data layers, copies of raw files, fitted candidates and the records of retrainings hold training data or what was
learned from it. Nothing reads them once a version is in the registry.
"""

import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.settings import KernelSettings
from machine_learning_engineering.training.sources import RAW

LEFTOVER_SECONDS = 3_600.0
"""Age from which on a partial file cannot be one that is being written."""


class PruneReport(Struct, frozen=True, kw_only=True):
    """Numbers of files, or of folders of versions, that were removed, and the bytes that they had."""

    layers: int
    raw_files: int
    history_versions: int
    retraining_records: int
    leftovers: int
    bytes: int


def prune(settings: KernelSettings, before: datetime, *, dry_run: bool = False) -> PruneReport:
    """Remove data layers, raw files, the history's versions and records of retrainings that were last written before.

    Also removed are leftovers of killed processes (``.partial-*``, ``.saving-*``) that are older than an hour. Versions
    in the history with an alias stay, and so does everything in the registry that workers open.

    Args:
        dry_run: Only count.

    Raises:
        OSError: A file can't be removed.
    """
    oldest = before.timestamp()
    layers = settings.layers_dir
    found = {
        "layers": [path for path in layers.glob("*/*/*.parquet") if path.parts[-3] != RAW],
        "raw_files": list((layers / RAW).glob("*/*")),
        "history_versions": list(_history(settings)),
        "retraining_records": list((settings.home / "retraining").glob("*/*.json")),
    }
    old = {name: [path for path in paths if path.lstat().st_mtime < oldest] for name, paths in found.items()}
    old["leftovers"] = list(_leftovers(settings))
    size = sum(_size(path) for paths in old.values() for path in paths)
    if not dry_run:
        for path in (path for paths in old.values() for path in paths):
            _remove(path)
    return PruneReport(bytes=size, **{name: len(paths) for name, paths in old.items()})


def _history(settings: KernelSettings) -> Iterator[Path]:
    """Folders of the versions in the history that no alias points to; none if it is the registry itself."""
    folder = settings.history_dir
    if folder.absolute() in (settings.registry_dir.absolute(), settings.sota_dir.absolute()):
        return
    history = Registry(folder)
    for name in history.models():
        named = set(history.aliases(name).values())
        yield from (folder / name / version for version in history.versions(name) if version not in named)


def _leftovers(settings: KernelSettings) -> Iterator[Path]:
    oldest = time.time() - LEFTOVER_SECONDS
    folders = {settings.home, settings.layers_dir, settings.history_dir, settings.sota_dir}
    for folder in folders:
        for pattern in (".partial-*", ".saving-*"):
            for path in folder.rglob(pattern):
                # The home may contain the other folders.
                inner = any(other != folder and other in path.parents and folder in other.parents for other in folders)
                if not inner and path.lstat().st_mtime < oldest:
                    yield path


def _size(path: Path) -> int:
    if path.is_dir() and not path.is_symlink():
        return sum(file.lstat().st_size for file in path.rglob("*"))
    return path.lstat().st_size


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
        if path.parent.parent.name == RAW and not any(path.parent.iterdir()):
            path.parent.rmdir()

"""Removal of what trainings and retrainings left on disk, by age.

Data layers, copies of raw files, fitted candidates and the records of retrainings hold training data or what was
learned from it. Nothing reads them once a version is in the registry.
"""

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from msgspec import Struct

from machine_learning_engineering.registry.reader import RegistryReader
from machine_learning_engineering.settings import KernelSettings
from machine_learning_engineering.storage.opening import local_path
from machine_learning_engineering.training.prune_objects import is_registry, remote_groups
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
    in the history that an alias or a rollout names stay, and so does everything in the registry that workers open.

    Args:
        dry_run: Only count.

    Raises:
        OSError: A file can't be removed, or a store behind a URL is unavailable.
    """
    oldest = before.timestamp()
    layers = local_path(settings.layers_dir)
    found = {
        "layers": [path for path in layers.glob("*/*/*.parquet") if path.parts[-3] != RAW] if layers else [],
        "raw_files": list((layers / RAW).glob("*/*")) if layers else [],
        "history_versions": list(_history(settings)),
        "retraining_records": list((settings.home / "retraining").glob("*/*.json")),
    }
    old = {name: [path for path in paths if path.lstat().st_mtime < oldest] for name, paths in found.items()}
    old["leftovers"] = list(_leftovers(settings))
    size = sum(_size(path) for paths in old.values() for path in paths)
    counts = Counter({name: len(paths) for name, paths in old.items()})
    if not dry_run:
        for path in (path for paths in old.values() for path in paths):
            _remove(path)
    for group in remote_groups(settings, before, time.time() - LEFTOVER_SECONDS):
        counts[group.what] += 1
        size += sum(one.size for one in group.files)
        if not dry_run:
            for one in group.files:
                group.store.remove(one.key)
    return PruneReport(bytes=size, **counts)


def _history(settings: KernelSettings) -> Iterator[Path]:
    """Folders of the versions in the history that no alias and no rollout names; none if it is the registry itself."""
    folder = local_path(settings.history_dir)
    if folder is None or is_registry(settings.history_dir, settings):
        return
    history = RegistryReader(settings.history_dir)
    for name in history.models():
        named = history.named(name)
        yield from (folder / name / version for version in history.versions(name) if version not in named)


def _leftovers(settings: KernelSettings) -> Iterator[Path]:
    oldest = time.time() - LEFTOVER_SECONDS
    places = (settings.home, settings.layers_dir, settings.history_dir, settings.sota_dir)
    folders = {path for place in places if (path := local_path(place)) is not None}
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

"""What `prune` removes behind URLs: the same as in folders, by the time that the store gives."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from machine_learning_engineering.registry.artifacts import MANIFEST_FILE
from machine_learning_engineering.registry.reader import RegistryReader
from machine_learning_engineering.registry.uri import NAME, VERSION
from machine_learning_engineering.settings import KernelSettings
from machine_learning_engineering.storage.location import Location, Place
from machine_learning_engineering.storage.opening import local_path, open_store
from machine_learning_engineering.storage.store import Store, StoredKey
from machine_learning_engineering.training.sources import RAW


class Group(NamedTuple):
    """Files that are removed together and counted as one of `prune.PruneReport`."""

    what: str
    store: Store
    files: list[StoredKey]


def remote_groups(settings: KernelSettings, before: datetime, leftover_time: float) -> Iterator[Group]:
    """What is older than `before`; and versions that a killed process left without a manifest before `leftover_time`.

    Raises:
        StoreUnavailable: A store is unavailable.
    """
    if local_path(settings.layers_dir) is None:
        store = open_store(settings.layers_dir)
        for one in store.files(""):
            if one.modified < before:
                yield Group("raw_files" if one.key.startswith(f"{RAW}/") else "layers", store, [one])
    if local_path(settings.history_dir) is None and not is_registry(settings.history_dir, settings):
        yield from _versions(settings.history_dir, before)
    for place in dict.fromkeys((settings.history_dir, settings.sota_dir, settings.registry_dir)):
        if local_path(place) is None:
            yield from _unfinished(place, leftover_time)


def is_registry(place: Place, settings: KernelSettings) -> bool:
    """Whether the history is a registry that workers open or that takes the best models."""
    return _same(place) in (_same(settings.registry_dir), _same(settings.sota_dir))


def _same(place: Place) -> str:
    path = local_path(place)
    return str(place) if path is None else str(path.absolute())


def _versions(place: Place, before: datetime) -> Iterator[Group]:
    """Versions that no alias and no rollout names."""
    assert isinstance(place, Location)
    history = RegistryReader(place)
    for name in history.models():
        named = history.named(name)
        for version in history.versions(name):
            files = list(history.files.store.files(f"{name}/{version}"))
            if version not in named and all(one.modified < before for one in files):
                # The manifest first: without it there is no version.
                files.sort(key=lambda one: not one.key.endswith(MANIFEST_FILE))
                yield Group("history_versions", history.files.store, files)


def _unfinished(place: Place, oldest: float) -> Iterator[Group]:
    store = open_store(place)
    found: dict[tuple[str, str], list[StoredKey]] = defaultdict(list)
    for one in store.files(""):
        name, _, rest = one.key.partition("/")
        version, _, file = rest.partition("/")
        if file and NAME.fullmatch(name) and VERSION.fullmatch(version):
            found[name, version].append(one)
    for files in found.values():
        finished = any(one.key.endswith(f"/{MANIFEST_FILE}") for one in files)
        if not finished and all(one.modified.timestamp() < oldest for one in files):
            yield Group("leftovers", store, files)

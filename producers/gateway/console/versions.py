"""The versions of a model as the files of the registry have them: metrics, aliases and history. No model code."""

from typing import Any

from machine_learning_engineering.registry.manifest import CorruptModel
from machine_learning_engineering.registry.reader import RegistryReader

MAX_VERSIONS = 30
MAX_CHANGES = 30


def of_model(registry: RegistryReader, name: str) -> dict[str, Any]:
    """The last versions of a model, newest first, and the last changes of its aliases. Blocks.

    A version whose manifest is damaged has an `error` instead of metrics.

    Raises:
        LookupError: there is no such model.
        OSError: the registry is unavailable.
    """
    if name not in registry.files.names():
        raise LookupError(name)
    problem = ""
    try:
        aliases, history = registry.aliases(name), registry.history(name)
    except CorruptModel:
        # Not the message: it has the path of the file.
        aliases, history, problem = {}, [], f"its aliases can't be read: see inflight models show {name}"
    found = registry.versions(name)
    return {
        "name": name,
        "problem": problem,
        "count": len(found),
        "versions": [_version(registry, name, one, aliases) for one in found[: -MAX_VERSIONS - 1 : -1]],
        "history": history[: -MAX_CHANGES - 1 : -1],
    }


def _version(registry: RegistryReader, name: str, version: str, aliases: dict[str, str]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "version": version,
        "aliases": sorted(alias for alias, target in aliases.items() if target == version),
    }
    try:
        found = registry.manifest(name, version)
    except CorruptModel:
        return shown | {"error": f"its manifest can't be read: see inflight models show {name}:{version}"}
    return shown | {
        "created_at": found.created_at,
        "metrics": found.metrics,
        "primary_metric": found.primary_metric,
        "params": found.params,
        "parent": found.lineage.parent,
        "datasets": sorted(found.lineage.datasets),
    }

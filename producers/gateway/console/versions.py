"""The versions of a model as the files of the registry have them: metrics, aliases and history. No model code."""

from pathlib import Path
from typing import Any

from machine_learning_engineering.registry import aliases as alias_file
from machine_learning_engineering.registry import artifacts
from machine_learning_engineering.registry.manifest import CorruptModel
from machine_learning_engineering.registry.uri import NAME

MAX_VERSIONS = 30
MAX_CHANGES = 30


def names(registry: Path) -> list[str]:
    """The models of the registry, with or without a champion. Blocks."""
    folders = registry.iterdir() if registry.is_dir() else ()
    return sorted(folder.name for folder in folders if NAME.fullmatch(folder.name) and artifacts.versions(folder))


def of_model(registry: Path, name: str) -> dict[str, Any]:
    """The last versions of a model, newest first, and the last changes of its aliases. Blocks.

    A version whose manifest is damaged has an `error` instead of metrics.

    Raises:
        LookupError: there is no such model.
    """
    folder = registry / name
    if not NAME.fullmatch(name) or not folder.is_dir():
        raise LookupError(name)
    problem = ""
    try:
        aliases, history = alias_file.read(folder)
    except CorruptModel:
        # Not the message: it has the path of the file.
        aliases, history, problem = {}, [], f"its aliases can't be read: see inflight models show {name}"
    found = artifacts.versions(folder)
    return {
        "name": name,
        "problem": problem,
        "count": len(found),
        "versions": [_version(folder, one, aliases) for one in found[: -MAX_VERSIONS - 1 : -1]],
        "history": history[: -MAX_CHANGES - 1 : -1],
    }


def _version(folder: Path, version: str, aliases: dict[str, str]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "version": version,
        "aliases": sorted(alias for alias, target in aliases.items() if target == version),
    }
    try:
        found = artifacts.read_manifest(folder, version)
    except CorruptModel:
        return shown | {"error": f"its manifest can't be read: see inflight models show {folder.name}:{version}"}
    return shown | {
        "created_at": found.created_at,
        "metrics": found.metrics,
        "primary_metric": found.primary_metric,
        "params": found.params,
        "parent": found.lineage.parent,
        "datasets": sorted(found.lineage.datasets),
    }

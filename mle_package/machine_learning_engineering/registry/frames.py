"""The versions of a registry as a data frame of pandas."""

from typing import Any

from machine_learning_engineering.core.frames import make_frame
from machine_learning_engineering.registry.registry import Registry


def versions_frame(registry: Registry) -> Any:
    """A frame with a row for each version, as `Registry.overview` lists them.

    Columns: model, version, created_at, aliases (a list of names), primary_metric, and one for each metric, such as
    ``metrics.r2``, NaN where a version has none. Versions that can't be read are left out.

    Raises:
        ImportError: pandas is not installed.
    """
    found, _ = registry.overview()
    names = dict.fromkeys(name for manifest, _ in found for name in sorted(manifest.metrics))
    columns: dict[str, list[Any]] = {
        "model": [manifest.name for manifest, _ in found],
        "version": [manifest.version for manifest, _ in found],
        "created_at": [manifest.created_at for manifest, _ in found],
        "aliases": [[alias for alias, one in aliases.items() if one == m.version] for m, aliases in found],
        "primary_metric": [manifest.primary_metric for manifest, _ in found],
    }
    columns |= {f"metrics.{name}": [manifest.metrics.get(name) for manifest, _ in found] for name in names}
    types = dict.fromkeys(("model", "version", "primary_metric"), "string") | {"aliases": "object"}
    types |= {"created_at": "datetime64[us, UTC]"} | {f"metrics.{name}": "float64" for name in names}
    return make_frame(columns, types)

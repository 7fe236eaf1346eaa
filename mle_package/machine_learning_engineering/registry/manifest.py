"""What the registry knows of a version, and what can be wrong with one."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from machine_learning_engineering.events.schemas import Timestamp


class RegistryError(RuntimeError):
    """A model can't be kept or opened; the message names the model, the version and the fix."""


class ModelNotFound(RegistryError):
    """There is no such model, version or alias."""


class CorruptModel(RegistryError):
    """What is stored is not what was saved, holds types that are not trusted, or can't be built from the code here."""


class IncompatibleModel(RegistryError):
    """The version was made for other code: another schema of its features, or another scikit-learn."""


class StoredFile(msgspec.Struct, frozen=True):
    """Digest and size in bytes of a file of a version."""

    sha256: str
    size: int


class Lineage(msgspec.Struct, frozen=True):
    """Where a version comes from: the training run, the digest of each dataset by its id, and the version before.

    `parent` is the version that this one was made to replace, None for the first.
    """

    training_run: str = ""
    datasets: dict[str, str] = {}
    parent: str | None = None


class AliasChange(msgspec.Struct, frozen=True):
    """Who made an alias point to `version` instead of `previous`, when and why; None is "to nothing"."""

    alias: str
    version: str | None
    previous: str | None
    at: Timestamp
    by: str
    reason: str = ""
    rollback: bool = False


class Manifest(msgspec.Struct, frozen=True):
    """What is known of a version. A later manifest may have more fields, which then are optional, never fewer."""

    name: str
    version: str
    created_at: datetime
    files: dict[str, StoredFile]
    metrics: dict[str, float]
    primary_metric: str
    params: dict[str, Any]
    features_schema: dict[str, Any]
    training_data_sha256: str
    seed: int
    scikit_learn_version: str
    lineage: Lineage = Lineage()


def finite(metrics: Mapping[str, float], model: str) -> dict[str, float]:
    """The metrics of a new version as plain numbers.

    Raises:
        RegistryError: one is no finite number. JSON has none such: the manifest could not be read again.
    """
    found = {metric: float(value) for metric, value in metrics.items()}
    if bad := ", ".join(f"{metric} ({value})" for metric, value in found.items() if not math.isfinite(value)):
        raise RegistryError(f"model `{model}` was not saved, a metric is no finite number: {bad}; see its evaluate()")
    return found


def same_requests(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two JSON Schemas accept the same requests: titles and descriptions do not count."""
    return bool(_without_words(one) == _without_words(other))


def _without_words(schema: Any, names_are_fields: bool = False) -> Any:
    if isinstance(schema, dict):
        return {
            key: _without_words(value, names_are_fields=key == "properties" and not names_are_fields)
            for key, value in schema.items()
            if names_are_fields or key not in ("title", "description")
        }
    if isinstance(schema, list):
        return [_without_words(item) for item in schema]
    return schema

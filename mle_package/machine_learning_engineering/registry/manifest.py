"""The manifest of a version, its parts, and the errors of the registry."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from machine_learning_engineering.events.schemas import Timestamp


class RegistryError(RuntimeError):
    """A model can't be saved or opened. The message names the model, the version and the fix."""


class ModelNotFound(RegistryError):
    """No such model, version or alias exists."""


class CorruptModel(RegistryError):
    """A stored file differs from what was saved, holds untrusted types, or can't be built from the installed code."""


class IncompatibleModel(RegistryError):
    """The version needs other code: another schema of features or predictions, or another version of a library."""


class AliasesChanged(RegistryError):
    """Another machine has changed a model's aliases or rollouts while they were edited here."""


class StoredFile(msgspec.Struct, frozen=True):
    """SHA-256 and size in bytes of a file of a version."""

    sha256: str
    size: int


class Lineage(msgspec.Struct, frozen=True):
    """Origin of a version: its training run, the SHA-256 of each dataset by id, and the version it was to replace.

    `parent` is None for the first version.
    """

    training_run: str = ""
    datasets: dict[str, str] = {}
    parent: str | None = None


class AliasChange(msgspec.Struct, frozen=True):
    """One change of an alias: from the version `previous` to `version`, when, by whom and why. None is "unset"."""

    alias: str
    version: str | None
    previous: str | None
    at: Timestamp
    by: str
    reason: str = ""
    rollback: bool = False


class Manifest(msgspec.Struct, frozen=True):
    """Metadata of a version. Later releases may add optional fields; they never remove one."""

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
    libraries: dict[str, str] = {}
    """Versions of further libraries that the file depends on, such as NumPy; empty before they were recorded."""
    prediction_schema: dict[str, Any] = {}
    """JSON Schema of `Prediction`; empty before it was recorded."""
    prediction_name: str = "prediction"
    """What the model predicts, in one word; see `core.model.Model.prediction_name`."""
    redacted_features: dict[str, str] | None = None
    """See `core.model.Model.redacted_features`; None before it was recorded."""


def require_finite(metrics: Mapping[str, float], model: str) -> dict[str, float]:
    """Convert the metrics of a new version to floats and check that they are finite.

    Raises:
        RegistryError: A metric is NaN or infinite. JSON has neither, so the manifest would be unreadable.
    """
    found = {metric: float(value) for metric, value in metrics.items()}
    if bad := ", ".join(f"{metric} ({value})" for metric, value in found.items() if not math.isfinite(value)):
        raise RegistryError(f"model `{model}` was not saved, a metric is not finite: {bad}; see its evaluate()")
    return found


def schemas_equivalent(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two JSON Schemas accept the same requests, ignoring titles, descriptions, examples and extensions."""
    # As JSON, because one of them was read from a file: a default that is not finite is null there.
    one, other = (msgspec.json.decode(msgspec.json.encode(schema)) for schema in (one, other))
    return bool(_strip_annotations(one) == _strip_annotations(other))


_ANNOTATIONS = ("title", "description", "examples")


def _strip_annotations(schema: Any, keys_are_fields: bool = False) -> Any:
    if isinstance(schema, dict):
        return {
            key: _strip_annotations(value, keys_are_fields=key == "properties" and not keys_are_fields)
            for key, value in schema.items()
            if keys_are_fields or not (key in _ANNOTATIONS or key.startswith("x-"))
        }
    if isinstance(schema, list):
        return [_strip_annotations(item) for item in schema]
    return schema

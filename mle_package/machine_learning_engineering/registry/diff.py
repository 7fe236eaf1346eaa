"""Comparison of two versions, from their manifests."""

import math
from typing import Any

from msgspec import Struct

from machine_learning_engineering.registry.manifest import Manifest, schemas_equivalent


class MetricPair(Struct, frozen=True):
    """One metric of both versions. `difference` is `other` minus `one`, None if one lacks the metric."""

    one: float | None
    other: float | None
    difference: float | None


class VersionComparison(Struct, frozen=True):
    """Differences between two versions.

    `better` is the version with the greater primary metric, None if they are equal or not comparable. Metrics are only
    comparable if they were measured on the same rows: `same_data` is true if both versions were trained on the same
    data with the same seed. `same_schema` is true if both accept the same requests. `params` holds the parameters that
    differ, None where a version has no such parameter.
    """

    one: str
    other: str
    primary_metric: str
    better: str | None
    same_data: bool
    same_schema: bool
    metrics: dict[str, MetricPair]
    params: dict[str, tuple[Any, Any]]


def compare(one: Manifest, other: Manifest) -> VersionComparison:
    """Compare two versions, of one model or of two."""
    metrics = {
        name: _pair(one.metrics.get(name), other.metrics.get(name))
        for name in dict.fromkeys([*one.metrics, *other.metrics])
    }
    primary = metrics.get(one.primary_metric)
    difference = primary.difference if primary is not None and one.primary_metric == other.primary_metric else None
    names = _name(one), _name(other)
    return VersionComparison(
        one=names[0],
        other=names[1],
        primary_metric=one.primary_metric,
        better=names[difference > 0] if difference is not None and abs(difference) > 0 else None,
        same_data=(one.training_data_sha256, one.seed) == (other.training_data_sha256, other.seed),
        same_schema=schemas_equivalent(one.features_schema, other.features_schema),
        metrics=metrics,
        params={
            name: (one.params.get(name), other.params.get(name))
            for name in dict.fromkeys([*one.params, *other.params])
            if one.params.get(name) != other.params.get(name)
        },
    )


def _name(manifest: Manifest) -> str:
    return f"{manifest.name}:{manifest.version}"


def _pair(one: float | None, other: float | None) -> MetricPair:
    difference = None if one is None or other is None else other - one
    return MetricPair(one, other, difference if difference is None or math.isfinite(difference) else None)

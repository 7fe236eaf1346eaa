"""Two versions side by side, from what the registry recorded of them."""

import math
from typing import Any

from msgspec import Struct

from machine_learning_engineering.registry.manifest import Manifest, same_requests


class MetricPair(Struct, frozen=True):
    """A metric of both; `difference` is the second less the first, None where one has no such metric."""

    one: float | None
    other: float | None
    difference: float | None


class VersionComparison(Struct, frozen=True):
    """`better` is the version whose primary metric is greater, None if they are equal or can't be compared.

    Metrics are only comparable as far as they were measured on the same rows: `same_data` says whether both were made
    of the same data with the same seed. `params` are those that differ, None where one has none.
    """

    one: str
    other: str
    primary_metric: str
    better: str | None
    same_data: bool
    same_requests: bool
    metrics: dict[str, MetricPair]
    params: dict[str, tuple[Any, Any]]


def compare(one: Manifest, other: Manifest) -> VersionComparison:
    """What differs between two versions, of one model or of two."""
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
        same_requests=same_requests(one.features_schema, other.features_schema),
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

"""Building blocks of every process's metrics."""

from collections.abc import Iterable
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.metrics import MetricWrapperBase

UNKNOWN = "unknown"


OTHER = "other"
"""Label value of what comes after the first `MAX_CHILDREN` combinations: a metric can't grow without bound."""


MAX_CHILDREN = 500


_M = TypeVar("_M", bound=MetricWrapperBase)


def register_process(registry: CollectorRegistry) -> None:
    """Add what every process tells of itself: memory, CPU time, files, Python."""
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)


class Children(Generic[_M]):
    """The children of one metric by label values: cached, since a look-up costs more than counting, and bounded."""

    def __init__(self, metric: _M) -> None:
        self._metric = metric
        self._known: dict[tuple[str, ...], _M] = {}

    def __call__(self, *values: str) -> _M:
        child = self._known.get(values)
        if child is None:
            if len(self._known) >= MAX_CHILDREN:
                return self._metric.labels(*[OTHER for _ in values])
            child = self._known[values] = self._metric.labels(*values)
        return child


def declared(registry: CollectorRegistry) -> Iterable[tuple[str, str, str, str]]:
    """Name, type, unit and help of each metric of this product in a registry, for docs and tests."""
    for family in registry.collect():
        if family.name.startswith("inflight_"):
            yield family.name, family.type, family.unit, family.documentation

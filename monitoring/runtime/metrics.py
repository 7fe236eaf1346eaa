"""Building blocks of every process's metrics."""

from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.metrics import MetricWrapperBase

UNKNOWN = "unknown"
OTHER = "other"
"""Label value of all combinations after the first `MAX_CHILDREN`: a metric can't grow without bound."""
MAX_CHILDREN = 500
LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""In seconds."""

_M = TypeVar("_M", bound=MetricWrapperBase)


def register_process(registry: CollectorRegistry) -> None:
    """Add the metrics of the process itself: memory, CPU time, open files, Python."""
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)


class Declare:
    """Declares metrics in a registry. The unit of each is the last word of its name."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def __call__(self, kind: type[_M], name: str, text: str, *labels: str, **options: Any) -> _M:
        return kind(name, text, labels, unit=name.rpartition("_")[2], registry=self._registry, **options)


class Children(Generic[_M]):
    """Bounded cache of a metric's children by label values: a lookup costs more than counting."""

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

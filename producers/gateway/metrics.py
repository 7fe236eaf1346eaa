"""The gateway's metrics. Durations in seconds, sizes in bytes."""

from collections.abc import Callable, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2.5, 5, 10, 30)

GAUGES = {
    "in_flight_rows": "Rows that wait for their predictions.",
    "in_flight_bytes": "Size of the bodies in progress.",
    "recalled_requests": "Requests that are known without Elasticsearch.",
    "repeated_results": "Results after the first one of their request.",
    "ready": "1 if the gateway takes requests.",
    "connections": "Open connections.",
    "streams": "Open live streams.",
    "stream_overflows": "Gaps of live streams whose client was too slow, since the start.",
}


class GatewayMetrics:
    """The metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._gauge = partial(Gauge, registry=self.registry)
        text = "HTTP requests by route, method and status."
        self.requests = Counter(
            "inflight_gateway_requests", text, ["route", "method", "status"], registry=self.registry
        )
        text = "Time from the headers of a request to its response, by route."
        self.seconds = Histogram(
            "inflight_gateway_request_seconds", text, ["route"], buckets=_SECONDS, registry=self.registry
        )
        text = "Requests that ended in a problem, by its type."
        self.problems = Counter("inflight_gateway_problems", text, ["problem"], registry=self.registry)
        self.calls = CallMetrics(self.registry)

    def watch(self, readings: Mapping[str, Callable[[], float]]) -> None:
        """Add the gauges, which are read when they are scraped."""
        for name, read in readings.items():
            self._gauge(f"inflight_gateway_{name}", GAUGES[name]).set_function(read)


class CallMetrics:
    """Metrics of the log of calls."""

    REASONS = ("buffer_full", "internal_error", "not_delivered", "stopped", "too_large")

    def __init__(self, registry: CollectorRegistry) -> None:
        text = "Calls that are on their topic."
        self.written = Counter("inflight_gateway_calls_logged", text, registry=registry)
        text = "Calls that did not reach their topic, by reason."
        self._lost = Counter("inflight_gateway_calls_lost", text, ["reason"], registry=registry)
        for reason in self.REASONS:
            self._lost.labels(reason)

    def lost(self, reason: str, count: int = 1) -> None:
        """Count lost calls."""
        self._lost.labels(reason).inc(count)

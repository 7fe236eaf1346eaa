"""Metrics of shadows."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge


class ShadowMetrics:
    """What becomes of the requests that are scored in the shadow. Any thread may update them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, registry=registry)
        counter = partial(Counter, registry=registry)
        text = "Requests scored in the shadow by outcome; dropped ones had no time."
        self.records = counter("inflight_worker_shadow_records", text, ["model", "outcome"])
        text = "Records of shadows that were not delivered."
        self.lost = counter("inflight_worker_shadow_lost", text)
        text = "Requests that wait for the shadow."
        self.waiting = gauge("inflight_worker_shadow_waiting_records", text, ["model"])
        text = "Processes of shadows that ended, or had to be ended, and were started again."
        self.restarts = counter("inflight_worker_shadow_restarts", text, ["model"])
        text = "1 while the process of a shadow answers."
        self.up = gauge("inflight_worker_shadow_up", text, ["model", "model_version"])
        text = "Resident memory of the process of a shadow."
        self.memory = gauge("inflight_worker_shadow_memory_bytes", text, ["model"])

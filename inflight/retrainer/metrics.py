"""The metrics of `inflight retrainer`; `docs/metrics.md` describes them. Durations are in seconds."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from monitoring.runtime.metrics import Declare, register_process


class RetrainerMetrics:
    """Declares the metrics."""

    def __init__(self, registry: CollectorRegistry) -> None:
        metric = Declare(registry)
        text = "Runs by model, trigger and outcome."
        self.runs = metric(Counter, "inflight_retrainer_runs", text, "model", "trigger", "outcome")
        text = "When the training that runs now made its last step, in seconds since 1970; 0 while none runs."
        self.running = metric(Gauge, "inflight_retrainer_running_timestamp_seconds", text)
        text = "When all models were last looked at, in seconds since 1970."
        self.looked_at = metric(Gauge, "inflight_retrainer_look_timestamp_seconds", text)
        text = "Looks at a model that failed, so that nothing was decided."
        self.errors = metric(Counter, "inflight_retrainer_errors", text, "model")
        register_process(registry)

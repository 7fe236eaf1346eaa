"""What the evidence of open rollouts amounts to, as metrics; `docs/metrics.md` describes them."""

from prometheus_client import CollectorRegistry, Gauge

from machine_learning_engineering.rollout.evidence import Evidence
from monitoring.runtime.metrics import Declare


class EvidenceMetrics:
    """Declares the metrics. They are those of the last look, and of open rollouts only."""

    def __init__(self, registry: CollectorRegistry) -> None:
        metric = Declare(registry)
        text = "Requests of this stage that count, by arm: without the warm-up, and of many a sample."
        self.counted = metric(Gauge, "inflight_rollout_counted_requests", text, "model", "arm")
        text = "Answered requests among them that are as old as labels take, by arm."
        self.mature = metric(Gauge, "inflight_rollout_mature_requests", text, "model", "arm")
        text = "Mature requests with a label, by arm."
        self.labelled = metric(Gauge, "inflight_rollout_labelled_requests", text, "model", "arm")
        text = "Mean loss of the labelled requests, by arm, in the unit of the model's row_loss."
        self.loss = metric(Gauge, "inflight_rollout_mean_loss", text, "model", "arm")
        text = "Labels that are left out, by reason: from_the_future or unknown."
        self.left_out = metric(Gauge, "inflight_rollout_left_out_labels", text, "model", "reason")

    def show(self, model: str, evidence: Evidence) -> None:
        """Set the metrics of a model."""
        for name, arm in (("champion", evidence.champion), ("challenger", evidence.challenger)):
            self.counted.labels(model, name).set(arm.requests)
            self.mature.labels(model, name).set(arm.mature)
            self.labelled.labels(model, name).set(arm.labelled)
            self.loss.labels(model, name).set(arm.loss.mean if arm.labelled else float("nan"))
        self.left_out.labels(model, "from_the_future").set(evidence.labels_from_the_future)
        self.left_out.labels(model, "unknown").set(evidence.labels_unknown)

    def forget(self, model: str) -> None:
        """Remove those of a model whose rollout has ended."""
        for metric in (self.counted, self.mature, self.labelled, self.loss, self.left_out):
            metric.remove_by_labels({"model": model})

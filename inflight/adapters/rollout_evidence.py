"""What the rollout controller and `inflight rollout show` are given: evidence from the stream, and the rules."""

from inflight.adapters.losses import RegistryLosses
from inflight.settings import Settings
from machine_learning_engineering.rollout.judging import judge
from machine_learning_engineering.rollout.record import Rollout
from monitoring.rollout.ports import Collect, EvidenceSource
from monitoring.rollout_evidence.collector import Collector

__all__ = ["judge", "open_evidence"]


def open_evidence(settings: Settings) -> Collect:
    """How the evidence of a stage is opened: from the topics, with losses by the models' own code."""
    losses = RegistryLosses(settings)

    def collect(rollout: Rollout) -> EvidenceSource:
        return Collector(settings, rollout, losses)

    return collect

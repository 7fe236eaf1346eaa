"""The metrics of `inflight rollout-controller`; `docs/metrics.md` describes them. Durations are in seconds."""

from collections import Counter as Tally
from datetime import datetime
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from machine_learning_engineering.rollout.machine import stage_limit, stage_seconds
from machine_learning_engineering.rollout.record import Outcome, Rollout, Rollouts, Stage
from machine_learning_engineering.rollout.verdict import Status, Verdict
from monitoring.rollout_evidence.metrics import EvidenceMetrics
from monitoring.runtime.metrics import Declare, register_process

STAGES: tuple[Stage, ...] = get_args(Stage)
OUTCOMES: tuple[Outcome, ...] = tuple(one for one in get_args(Outcome) if one)
STATUSES: tuple[Status, ...] = get_args(Status)


class RolloutMetrics:
    """Declares the metrics. All but the errors follow the record, so each controller shows the same."""

    def __init__(self, registry: CollectorRegistry) -> None:
        metric = Declare(registry)
        text = "1 for the stage of the open or last rollout of a model: shadow, canary, bake or finished; else 0."
        self.stage = metric(Gauge, "inflight_rollout_stage", text, "model", "stage")
        text = "Share of the keys that the challenger answers."
        self.share = metric(Gauge, "inflight_rollout_challenger_ratio", text, "model")
        text = "Age of the stage of an open rollout, without pauses."
        self.age = metric(Gauge, "inflight_rollout_stage_seconds", text, "model")
        text = (
            "Age at which the stage ends without a verdict: max_shadow or max_canary; that of the bake is its length."
        )
        self.limit = metric(Gauge, "inflight_rollout_limit_seconds", text, "model")
        text = "1 for the last step of the rollout of a model, with the challenger and the state after it."
        labels = ("model", "version", "action", "stage", "percent")
        self.step = metric(Gauge, "inflight_rollout_step_info", text, *labels)
        text = "1 while an open rollout is paused."
        self.paused = metric(Gauge, "inflight_rollout_paused", text, "model")
        text = "1 for the status of the verdict at the last look: pass, fail or waiting; else 0."
        self.verdict = metric(Gauge, "inflight_rollout_verdict", text, "model", "status")
        text = "1 for the status of each check at the last look: pass, fail or waiting; else 0."
        self.check = metric(Gauge, "inflight_rollout_check", text, "model", "check", "status")
        text = "Ended rollouts that the record still has, by outcome."
        self.ended = metric(Gauge, "inflight_rollout_ended_rollouts", text, "model", "outcome")
        text = "When the last rollout of a model ended, by its outcome, in seconds since 1970."
        self.ended_at = metric(Gauge, "inflight_rollout_ended_timestamp_seconds", text, "model", "outcome")
        text = "When all models were last looked at without an error, in seconds since 1970."
        self.looked_at = metric(Gauge, "inflight_rollout_controller_look_timestamp_seconds", text)
        text = "Looks at a model that failed, by the kind of error: its rollout stays as it is until the next one."
        self.errors = metric(Counter, "inflight_rollout_controller_errors", text, "cause")
        self.evidence = EvidenceMetrics(registry)
        register_process(registry)

    def show(self, model: str, rollouts: Rollouts, verdict: Verdict | None, now: datetime) -> None:
        """Set the metrics of a model to its record and the verdict at this look."""
        rollout = rollouts.current
        if rollout is None:
            return
        for stage in STAGES:
            self.stage.labels(model, stage).set(stage == rollout.stage)
        self.share.labels(model).set(rollout.percent / 100 if rollout.is_open else 0)
        self.paused.labels(model).set(rollout.paused)
        self.step.remove_by_labels({"model": model})
        if rollout.steps:
            step = rollout.steps[-1]
            self.step.labels(model, rollout.challenger, step.action, step.stage, str(step.percent)).set(1)
        if rollout.is_open:
            self.age.labels(model).set(stage_seconds(rollout, now))
            self.limit.labels(model).set(stage_limit(rollout))
        else:
            self.evidence.forget(model)
            self.age.remove_by_labels({"model": model})
            self.limit.remove_by_labels({"model": model})
        self._show_ends(model, rollouts)
        self._show_verdict(model, rollout, verdict)

    def _show_ends(self, model: str, rollouts: Rollouts) -> None:
        ended = [one for one in (*rollouts.past, rollouts.current) if one is not None and not one.is_open]
        counts = Tally(one.outcome for one in ended)
        for outcome in OUTCOMES:
            self.ended.labels(model, outcome).set(counts[outcome])
        self.ended_at.remove_by_labels({"model": model})
        if ended:
            self.ended_at.labels(model, ended[-1].outcome).set(ended[-1].stage_at.timestamp())

    def _show_verdict(self, model: str, rollout: Rollout, verdict: Verdict | None) -> None:
        if verdict is None and rollout.is_open:
            return
        self.verdict.remove_by_labels({"model": model})
        self.check.remove_by_labels({"model": model})
        if verdict is None:
            return
        for status in STATUSES:
            self.verdict.labels(model, status).set(status == verdict.status)
            for check in verdict.checks:
                self.check.labels(model, check.name, status).set(status == check.status)

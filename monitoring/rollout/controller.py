"""Looks at each open rollout, and moves it. It keeps nothing: whoever is started again goes on where the record is."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic
from typing import NamedTuple

from confluent_kafka import KafkaException

from machine_learning_engineering.kafka.broker_check import NoBrokersLeftError
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.registry.manifest import RegistryError
from machine_learning_engineering.registry.reader import RegistryReader
from machine_learning_engineering.registry.rolling import Flip, change_rollouts, reconcile
from machine_learning_engineering.rollout.machine import advance
from machine_learning_engineering.rollout.record import Rollout, Rollouts
from machine_learning_engineering.rollout.verdict import Verdict
from monitoring.rollout.announcing import Announcer, Publish, promotion_of
from monitoring.rollout.metrics import RolloutMetrics
from monitoring.rollout.ports import Collect, EvidenceSource, Judge

NAME = "rollout-controller"
POLL_SECONDS = 0.5
MAX_READ_SECONDS = 20.0
"""Longest time that one look reads evidence: the rollouts of other models wait."""
FAILURES = (RegistryError, OSError, KafkaException, NoBrokersLeftError)
"""What may fail in a look, and may go by itself. `StoreUnavailable` and time-outs are `OSError`."""


class _Watched(NamedTuple):
    stage: tuple[str, str, int, datetime]
    source: EvidenceSource


class Controller:
    """Reconciles record and alias, takes evidence, judges it and writes the next step, for one model after another.

    Several may run: a step is written only onto the record that was judged, so the loser of a race takes none.

    Args:
        registry: The rollouts are there.
        collect: Opens the evidence of a stage.
        judge: The verdict on evidence.
        publish: Announces steps and champions.
        metrics: Set at each look.
        clock: The time, with a zone.
    """

    def __init__(
        self,
        registry: RegistryReader,
        collect: Collect,
        judge: Judge,
        publish: Publish,
        metrics: RolloutMetrics,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._registry = registry
        self._collect = collect
        self._judge = judge
        self._publish = publish
        self._announcer = Announcer(publish)
        self._metrics = metrics
        self._clock = clock
        self._watched: dict[str, _Watched] = {}
        self._failing: set[str] = set()

    def run(self, stopping: threading.Event, interval: float) -> None:
        """Look every `interval` seconds until it is told to stop."""
        try:
            while not stopping.is_set():
                self.look_at_all(stopping)
                stopping.wait(interval)
        finally:
            for model in list(self._watched):
                self._forget(model)

    def look_at_all(self, stopping: threading.Event | None = None) -> None:
        """Look at each model once. The failure of one is logged, and the others are looked at."""
        try:
            models = self._registry.models()
        except FAILURES as error:
            return self._failed("", error)
        failed = False
        for model in models:
            if stopping is not None and stopping.is_set():
                return None
            try:
                self.look(model)
                self._failing.discard(model)
            except FAILURES as error:
                failed = True
                self._failed(model, error)
        if not failed:
            self._metrics.looked_at.set(self._clock().timestamp())
        return None

    def look(self, model: str) -> Rollouts:
        """Look at one model, and return its rollouts as they are after.

        Raises:
            RegistryError: A file of the model is unreadable, or somebody else is faster each time.
            OSError: The registry or the broker does not respond.
            KafkaException: The same.
        """
        rollouts = self._reconciled(model)
        if rollouts.current is None:
            return rollouts
        verdict = None
        if rollouts.current.is_open:
            verdict = self._verdict(rollouts.current)
            rollouts = self._moved(model, rollouts, verdict)
        else:
            self._forget(model)
        self._metrics.show(model, rollouts, verdict, self._clock())
        return rollouts

    def _reconciled(self, model: str) -> Rollouts:
        """The rollouts of a model, with its alias as they say; what is new of them is announced."""
        rollouts, flip = reconcile(self._registry, model, self._clock())
        if flip is not None:
            log_event(NAME, "champion_changed", model=model, version=flip.version, reason=flip.reason)
        self._announce(model, rollouts, flip)
        return rollouts

    def _moved(self, model: str, rollouts: Rollouts, verdict: Verdict | None) -> Rollouts:
        """The rollouts after a verdict. Nothing is written unless it leads to a step, and onto no other record."""
        judged, now = rollouts.current, self._clock()
        if verdict is None or advance(rollouts, verdict, now) is rollouts:
            return rollouts
        after = change_rollouts(
            self._registry, model, lambda found: advance(found, verdict, now) if found.current == judged else found
        )
        if after.current is not None and after.current != judged:
            step = after.current.steps[-1]
            log_event(NAME, step.action, model=model, rollout=after.current.rollout_id, reason=step.reason)
        return self._reconciled(model)

    def _verdict(self, rollout: Rollout) -> Verdict | None:
        """What the evidence says by now; None as long as it is incomplete."""
        source = self._source(rollout)
        began = monotonic()
        try:
            while source.poll(POLL_SECONDS) and monotonic() - began < MAX_READ_SECONDS:
                pass
        except NoBrokersLeftError:
            self._forget(rollout.model)
            raise
        if not source.is_caught_up:
            return None
        now = self._clock()
        seconds = max(0.0, (now - rollout.stage_at).total_seconds())
        evidence = source.evidence(now)
        self._metrics.evidence.show(rollout.model, evidence)
        return self._judge(evidence, rollout.policy, rollout.stage, seconds)

    def _source(self, rollout: Rollout) -> EvidenceSource:
        stage = (rollout.rollout_id, rollout.stage, rollout.percent, rollout.stage_at)
        watched = self._watched.get(rollout.model)
        if watched is None or watched.stage != stage:
            self._forget(rollout.model)
            watched = self._watched[rollout.model] = _Watched(stage, self._collect(rollout))
        return watched.source

    def _forget(self, model: str) -> None:
        if (watched := self._watched.pop(model, None)) is not None:
            watched.source.close()

    def _announce(self, model: str, rollouts: Rollouts, flip: Flip | None) -> None:
        """Announce; a broker that does not respond must not keep a rollout from being rolled back."""
        try:
            if flip is not None:
                self._publish(promotion_of(flip, self._clock()))
            self._announcer.announce(model, rollouts)
        except (KafkaException, TimeoutError) as error:
            self._failed(model, error, "not_announced")

    def _failed(self, model: str, error: Exception, event: str = "look_failed") -> None:
        self._metrics.errors.labels(type(error).__name__).inc()
        if model not in self._failing:
            log_event(NAME, event, model=model, error=str(error)[:1_000])
        self._failing.add(model)

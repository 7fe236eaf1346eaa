"""One pass over the models that have a retraining policy: what is due is trained, and a rollout of it is started."""

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import msgspec

from inflight.retrainer.child import Interrupted
from inflight.retrainer.evidence import Champion, EvidenceUnavailable, Seen
from inflight.retrainer.holder import is_gone, this_process
from inflight.retrainer.job import Job, Result
from inflight.retrainer.ports import Evidence, StartRollout, Train
from inflight.retrainer.reports import Report, report_of, report_on
from inflight.settings import Settings
from machine_learning_engineering.core import files as durable
from machine_learning_engineering.registry import retrainings
from machine_learning_engineering.registry.manifest import RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.uri import CHALLENGER, CHAMPION
from machine_learning_engineering.retraining.triggers import Due, Facts, NotDue, claim, examine, with_run
from machine_learning_engineering.rollout.machine import RolloutRefused
from machine_learning_engineering.rollout.policy import ModelPolicy, RetrainingPolicy
from machine_learning_engineering.rollout.retraining import Holder, Outcome, Retrainings, Run

BUSY = "another retraining runs on this machine"
_LOCK = "running.lock"


class Retrainer:
    """Decides and trains, one model at a time.

    Several, on one machine or many, may share a registry. The record of a model's retrainings is the lock: whoever
    writes a run into it first does it.

    Args:
        settings: Home and registry.
        evidence: What the stream tells.
        train: Trains in a process of its own.
        start_rollout: Called with what was trained.
        clock: The time, with a zone.
        stopping: Whether the process has to stop.
    """

    def __init__(
        self,
        settings: Settings,
        evidence: Evidence,
        train: Train,
        start_rollout: StartRollout,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._settings = settings
        self._registry = Registry(settings.registry_dir)
        self._evidence = evidence
        self._train = train
        self._start_rollout = start_rollout
        self._clock = clock
        self._stopping = stopping

    def run(
        self,
        policies: Mapping[str, ModelPolicy],
        *,
        dry_run: bool = False,
        on_progress: Callable[[str], None] = lambda step: None,
    ) -> Iterator[Report]:
        """Look at each model that has a retraining policy, and yield what came of it.

        Args:
            dry_run: Only report what is due: nothing is written or trained.
        """
        wanted = {name: one for name, one in policies.items() if one.retraining is not None}
        champions: dict[str, Champion] = {}
        for name in list(wanted):
            try:
                if (champion := self._champion(name)) is not None:
                    champions[name] = champion
            except (RegistryError, OSError) as error:
                del wanted[name]
                yield Report(model=name, outcome="unreadable", reason=str(error))
        unknown, seen = "", dict[str, Seen]()
        try:
            asked = {name: one for name, one in champions.items() if _asks_the_stream(wanted[name])}
            seen = self._evidence.read(asked, self._clock()) if asked else {}
        except EvidenceUnavailable as error:
            unknown = f"drift, quality and labels are unknown: {error}"
        for name, policy in wanted.items():
            if self._stopping():
                return
            try:
                champion = champions.get(name)
                why = unknown if _asks_the_stream(policy) else ""
                facts = self._facts(name, champion, seen.get(name, Seen()), why)
                yield self._look(policy, facts, dry_run, on_progress)
            except (RegistryError, OSError) as error:
                yield Report(model=name, outcome="unreadable", reason=str(error))

    def _champion(self, name: str) -> Champion | None:
        version = self._registry.aliases(name).get(CHAMPION)
        if version is None:
            return None
        manifest = self._registry.manifest(name, version)
        return Champion(version, manifest.created_at, manifest.primary_metric)

    def _facts(self, name: str, champion: Champion | None, seen: Seen, unknown: str) -> Facts:
        rollout = self._registry.rollout(name)
        return Facts(
            model=name,
            champion=None if champion is None else champion.version,
            champion_at=None if champion is None else champion.trained_at,
            rollout="" if rollout is None else f"{rollout.champion} to {rollout.challenger} ({rollout.stage})",
            unknown=unknown,
            **seen._asdict(),
        )

    def _look(self, policy: ModelPolicy, facts: Facts, dry_run: bool, on_progress: Callable[[str], None]) -> Report:
        rules = policy.retraining
        assert rules is not None
        known = retrainings.read(self._registry.files, facts.model)
        decided, looks = examine(rules, facts, known, self._clock(), is_gone)
        if dry_run:
            return report_of(facts.model, decided)
        if isinstance(decided, NotDue) and decided.abandoned is None and looks == known.looks:
            return report_of(facts.model, decided)
        with only_one(self._settings) as is_free:
            if not is_free:
                # Nothing is recorded, not even the look: the next pass takes it.
                return Report(model=facts.model, outcome="not_due", reason=BUSY)
            return self._claim_and_run(policy, rules, facts, on_progress)

    def _claim_and_run(
        self, policy: ModelPolicy, rules: RetrainingPolicy, facts: Facts, on_progress: Callable[[str], None]
    ) -> Report:
        holder = this_process()
        decided: Due | NotDue = NotDue("")

        def edit(known: Retrainings) -> Retrainings:
            # Decided once more, on the record as it is now: another machine may have been faster.
            nonlocal decided
            now = self._clock()
            decided, looks = examine(rules, facts, known, now, is_gone)
            known = msgspec.structs.replace(known, looks=looks)
            if isinstance(decided, Due):
                return claim(known, decided, facts, rules, holder, now)
            if (run := decided.abandoned) is not None:
                reason = f"its process was killed {run.attempts} times"
                ended = {"outcome": "abandoned", "finished_at": now, "reason": reason}
                return with_run(known, msgspec.structs.replace(run, **ended))
            return known

        known = retrainings.change(self._registry.files, facts.model, edit)
        if isinstance(decided, NotDue):
            return report_of(facts.model, decided)
        run = next(one for one in known.runs if one.holder.token == holder.token)
        try:
            return self._do(policy, rules, facts.model, run, on_progress)
        except Interrupted:
            self._give_back(facts.model, run)
            return report_on(facts.model, run, "interrupted", "the process has to stop; the run is taken up again")

    def _do(
        self,
        policy: ModelPolicy,
        rules: RetrainingPolicy,
        model: str,
        run: Run,
        on_progress: Callable[[str], None],
    ) -> Report:
        on_progress(f"{model}: {run.trigger.kind} is due: {run.trigger.reason}")
        job = Job(
            model=model,
            champion=run.champion,
            run_id=f"{model}/{run.trigger.slot}",
            trigger=run.trigger,
            policy=rules,
            now=run.started_at,
        )
        if run.version:
            found = Result(outcome="challenger", version=run.version, rows=run.rows, flags=run.flags)
        else:
            seconds = (run.deadline - self._clock()) / timedelta(seconds=1)
            found = self._train(job, seconds=seconds, on_progress=on_progress, stopping=self._stopping)
        outcome: Outcome = msgspec.convert(found.outcome, Outcome)
        run = self._record(model, run, version=found.version, rows=found.rows, flags=found.flags, reason=found.reason)
        if outcome == "challenger":
            outcome, rollout_id, reason = self._roll_out(policy, model, run)
            run = self._record(
                model, run, outcome=outcome, rollout_id=rollout_id, reason=reason, finished_at=self._clock()
            )
        else:
            run = self._record(model, run, outcome=outcome, finished_at=self._clock())
        return report_on(model, run, run.outcome, run.reason)

    def _roll_out(self, policy: ModelPolicy, model: str, run: Run) -> tuple[Outcome, str, str]:
        """Start the rollout, unless a process that was killed has; the outcome, its id, and why there is none."""
        rollouts = self._registry.rollouts(model)
        for one in (rollouts.current, *rollouts.past):
            if one is not None and one.challenger == run.version:
                return "rollout", one.rollout_id, "its rollout was started before its process was killed"
        if self._registry.aliases(model).get(CHALLENGER) != run.version:
            self._registry.change_aliases(
                model,
                lambda aliases: aliases.update({CHALLENGER: run.version}),
                reason=f"retrained: {run.trigger.reason}",
            )
        why = f"retrained for {run.trigger.kind}: {run.trigger.reason}"
        try:
            rollout_id = self._start_rollout(model, run.version, policy, why, run.trigger.slot)
        except RolloutRefused as error:
            return "challenger", "", f"{run.version} waits: {error}"
        return "rollout", rollout_id, f"{run.version} is rolled out: {run.trigger.reason}"

    def _record(self, model: str, run: Run, **found: object) -> Run:
        """Record more of a run, as long as it is ours.

        Raises:
            RegistryError: Another process has taken it over, since this one exceeded its deadline.
        """
        after = msgspec.structs.replace(run, **found)

        def edit(known: Retrainings) -> Retrainings:
            require_ours(known, model, run.trigger.slot, run.holder)
            return with_run(known, after)

        retrainings.change(self._registry.files, model, edit)
        return after

    def _give_back(self, model: str, run: Run) -> None:
        """Let any process take a run up at once, without counting this attempt."""
        nobody = Holder("", 0, 0, "")
        back = {"holder": nobody, "deadline": run.started_at - timedelta(days=1), "attempts": run.attempts - 1}
        self._record(model, run, **back)


def _asks_the_stream(policy: ModelPolicy) -> bool:
    rules = policy.retraining
    return rules is not None and (rules.drift or rules.quality or rules.new_labels > 0)


def require_ours(known: Retrainings, model: str, slot: str, holder: Holder) -> None:
    """Check that a run is held by this process. Raises `RegistryError`."""
    now = next((one for one in known.runs if one.trigger.slot == slot), None)
    if now is None or now.holder.token != holder.token:
        by = "nobody" if now is None else now.holder.name or "another process"
        raise RegistryError(f"the run {slot} of model `{model}` was taken over by {by}; what was trained is not used")


@contextmanager
def only_one(settings: Settings) -> Iterator[bool]:
    """Hold the lock of this machine; False if another process of it retrains. The lock ends with its process."""
    folder = settings.home / "retraining"
    durable.make_folder(folder)
    descriptor = durable.open_private(folder / _LOCK, os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)

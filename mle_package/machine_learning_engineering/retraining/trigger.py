"""Retraining when the prediction log shows a reason: evidence, challenger, comparison with the champion, and a record.

There are two possible reasons, tested at one significance level, which bounds the false alarm rate of a call:

- with enough labels: the live metric is lower than that of the champion's held-out rows, which its profile contains;
- without: features or predictions drifted from the champion's reference profile.

The challenger is fitted on a part of the fresh data. `training.promotion` has the rule by which it may replace the
champion; unless promotion was asked for, it then waits for a person. Errors leave the champion as it is and are part of
the record.
"""

import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import msgspec

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.frames import examples_of, labels_of
from machine_learning_engineering.core.model import Model
from machine_learning_engineering.drift.binning import count_into
from machine_learning_engineering.drift.profile import HELD_OUT_ROWS, Profile
from machine_learning_engineering.drift.report import DEFAULT_MIN_PSI, drift
from machine_learning_engineering.evaluation.permutation import test_degradation
from machine_learning_engineering.evaluation.splits import HeldOut, split, split_key
from machine_learning_engineering.prediction_log.store import PredictionLog
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.uri import CHALLENGER, CHAMPION
from machine_learning_engineering.retraining import live_rows
from machine_learning_engineering.retraining.decision import Decision, Evidence, write
from machine_learning_engineering.retraining.live_rows import LiveRows
from machine_learning_engineering.settings import KernelSettings
from machine_learning_engineering.training.promotion import judge
from machine_learning_engineering.training.quick import ProgressCallback, train
from machine_learning_engineering.training.records import limit_sources

logger = logging.getLogger(__name__)

SIGNIFICANCE = 0.002
"""At most one false alarm in 500 calls, because retraining is triggered on a schedule."""
MIN_LABELLED = 200
MIN_ROWS = 500
MAX_ROWS = 10_000


def trigger_retraining(
    model_class: type[Model],
    log: PredictionLog,
    labels: Any = None,
    *,
    settings: KernelSettings,
    examples: Any = None,
    significance: float = SIGNIFICANCE,
    min_labelled: int = MIN_LABELLED,
    min_rows: int = MIN_ROWS,
    min_psi: float = DEFAULT_MIN_PSI,
    max_rows: int = MAX_ROWS,
    since: datetime | None = None,
    until: datetime | None = None,
    dry_run: bool = False,
    promote: bool | None = None,
    max_source_share: float | None = None,
    on_progress: ProgressCallback = lambda step: None,
) -> Decision:
    """Retrain a model if its log shows a reason to; see `MLEModel.trigger_retraining`.

    Args:
        significance: False alarm rate of a call.
        min_labelled: Minimum number of labelled rows for the test of the metric, and of fresh rows for retraining.
        min_rows: Minimum number of rows for the drift tests.
        min_psi: Minimum population stability index of drift.
        max_rows: Number of newest rows, and of newest labelled rows, that are read.
        since: Time of the first row that is read.
        until: Time of the last row that is read.
        dry_run: Only decide whether retraining is due.
        promote: Promote a challenger that passes the rule; `retrain_promote` of the settings by default.
        max_source_share: Maximum share of the labelled rows of the log that one source may have among those that are
            fitted and compared on; `train_max_source_share` of the settings by default.
        on_progress: Called with each step when it begins.

    Raises:
        ValueError: An option is out of range, or a data frame of labels or examples can't be used (`InvalidTable`).
            All other errors are part of the decision.
    """
    if not 0 < significance < 1:
        raise ValueError(f"significance is a false alarm rate between 0 and 1, not {significance}")
    if min_labelled < 2 or min_rows < 1 or max_rows < max(min_labelled, min_rows):
        raise ValueError("min_labelled must be at least 2, min_rows at least 1, and max_rows at least both")
    share = settings.train_max_source_share if max_source_share is None else max_source_share
    if not 0 < share <= 1:
        raise ValueError(f"max_source_share is a share above 0 and at most 1, not {share}")
    labels = labels_of(model_class, labels)
    fresh_examples = None if examples is None else list(examples_of(model_class, examples))
    started = time.monotonic()
    decision = Decision(
        decision_id=uuid.uuid4().hex,
        model=model_class.name,
        decided_at=datetime.now(UTC),
        significance=significance,
        min_labelled=min_labelled,
        min_rows=min_rows,
        max_source_share=share,
    )
    run = _RetrainingRun(model_class, settings, decision, on_progress)
    try:
        read = partial(live_rows.read, run.model, log, labels, max_rows=max_rows, since=since, until=until)
        live = run.collect_evidence(read, min_psi)
        if run.decision.outcome == "retraining_due":
            fresh = run.choose_rows(live, fresh_examples)
            if len(fresh) >= min_labelled and not dry_run:
                run.retrain(fresh, settings.retrain_promote if promote is None else promote)
    except Exception as error:  # The champion keeps serving.
        logger.warning("retraining of %s failed", model_class.name, exc_info=True)
        run.decide(outcome="failed", error=f"{type(error).__name__}: {error}")
    run.decide(seconds=round(time.monotonic() - started, 3))
    return write(run.decision, settings.home / "retraining" / model_class.name)


class _RetrainingRun:
    """One call. `decision` holds what is known so far, so that it is complete after an error."""

    def __init__(
        self, model_class: type[Model], settings: KernelSettings, decision: Decision, on_progress: ProgressCallback
    ) -> None:
        self.model_class = model_class
        self.model = model_class()
        self.settings = settings
        self.registry = Registry(settings.registry_dir)
        self.decision = decision
        self.on_progress = on_progress

    def decide(self, **found: Any) -> None:
        self.decision = msgspec.structs.replace(self.decision, **found)

    def collect_evidence(self, read: Callable[..., LiveRows], min_psi: float) -> LiveRows:
        """Collect the evidence and decide whether retraining is due. `read` takes the `version` of the rows."""
        name = self.model.name
        champion = self.registry.resolve(name, CHAMPION)
        self.decide(champion=champion)
        manifest, profile = self.registry.verify(name, champion), self.registry.profile(name, champion)
        self.on_progress(f"{name}: reading the prediction log")
        live = read(version=champion)
        evidence = Evidence(
            rows=len(live.rows),
            labelled=len(live.labelled),
            label_sources=dict(Counter(one.source for one in live.labelled)),
            skipped=live.skipped,
            labels_unmatched=live.unmatched,
            first=live.first,
            last=live.last,
            recorded_metric=manifest.metrics.get(manifest.primary_metric),
        )
        self.decide(evidence=evidence)
        if profile is None:
            raise ValueError(f"model `{name}` {champion} has no reference profile: run inflight train {name}")
        if len(live.rows) >= self.decision.min_rows:
            self.on_progress(f"{name}: comparing {len(live.rows)} rows with the reference profile")
            window = count_into(profile, live.rows, live.predictions)
            found = drift(profile, window, significance=self.decision.significance, min_psi=min_psi)
            self.decide(evidence=msgspec.structs.replace(evidence, drift=found))
        if len(live.labelled) >= self.decision.min_labelled and profile.held_out:
            self.on_progress(f"{name}: comparing {len(live.labelled)} labelled rows with the held-out ones")
            self._by_metric(profile, live)
        else:
            self._by_drift(profile)
        return live

    def _by_metric(self, profile: Profile, live: LiveRows) -> None:
        reference = [
            (msgspec.convert(prediction, self.model.Prediction), msgspec.convert(label, self.model.Label))
            for prediction, label in profile.held_out
        ]
        test = test_degradation(
            self.model,
            reference,
            [(one.prediction, one.label) for one in live.labelled[-HELD_OUT_ROWS:]],
            significance=self.decision.significance,
            seed=self.settings.seed,
        )
        self.decide(
            evidence=msgspec.structs.replace(self.decision.evidence, metric=test),
            outcome="retraining_due" if test.significant else "kept",
            reason=f"live {test.metric} {test.observed:.5g} of {test.rows} rows is "
            f"{'' if test.significant else 'not significantly '}lower than {test.reference:.5g} of "
            f"{test.reference_rows} held-out rows (p = {test.p_value:.2g})",
        )

    def _by_drift(self, profile: Profile) -> None:
        evidence, decision = self.decision.evidence, self.decision
        few = f"{evidence.labelled} labelled rows (at least {decision.min_labelled} are needed to test the metric)"
        if not profile.held_out:
            few = f"the metric can't be tested, because the profile of {decision.champion} has no held-out predictions"
        found = evidence.drift
        if found is None:
            self.decide(reason=f"{few}, and {evidence.rows} rows are too few to test for drift: {decision.min_rows}")
        elif found.drifted:
            self.decide(outcome="retraining_due", reason=f"{few}; drifted: {', '.join(found.drifted)}")
        else:
            self.decide(reason=f"{few}; no drift in {found.rows} rows")

    def choose_rows(self, live: LiveRows, examples: Sequence[Example] | None) -> Sequence[Example]:
        """The fresh examples to retrain on; the decision says how many, and why they are too few."""
        usable = [one for one in live.labelled if one.example is not None]
        limited = [usable[i] for i in limit_sources([one.source for one in usable], self.decision.max_source_share)]
        fresh = [one.example for one in limited if one.example is not None] if examples is None else examples
        sources = Counter(one.source for one in limited) if examples is None else {"examples": len(fresh)}
        self.decide(trained_on=dict(sources))
        if len(fresh) < self.decision.min_labelled:
            left_out = len(usable) - len(limited) if examples is None else 0
            limit = f"; {left_out} were left out, because one source may have {self.decision.max_source_share:.0%}"
            self.decide(
                reason=f"{self.decision.reason}; {len(fresh)} fresh labelled rows are too few to train on, "
                f"at least {self.decision.min_labelled} are needed: report more labels or give examples"
                f"{limit if left_out else ''}"
            )
        return fresh

    def retrain(self, fresh: Sequence[Example], promote: bool) -> None:
        """Fit a challenger on a part of the fresh examples, and compare it with the champion by the promotion rule."""
        name, champion = self.model.name, self.decision.champion
        assert champion is not None
        serving = self.registry.open(name, champion, model_class=self.model_class)
        # Decoded first, so that bad data fails before the long work.
        rows = [self.model.decode(msgspec.json.encode(example.features)) for example in fresh]
        groups = [split_key(example.group, row) for example, row in zip(fresh, rows, strict=True)]
        fitting, gating = split(len(fresh), self.settings.seed, groups)
        held_out = HeldOut.select(rows, [one.label for one in fresh], groups, gating, self.settings.seed)
        run = train(
            self.model_class,
            self.settings,
            examples=[fresh[index] for index in fitting],
            on_progress=self.on_progress,
            promote=False,
            training_run=self.decision.decision_id,
            **champion_recipe(self.registry, self.model, champion),
        )
        self.decide(challenger=run.version)
        self.registry.change_aliases(
            name,
            lambda aliases: aliases.update({CHALLENGER: run.version}),
            reason=f"retrained: {self.decision.reason}",
        )
        self.on_progress(f"{name}: comparing {run.version} with {champion} on {len(gating)} fresh rows")
        challenger = self.registry.open(name, run.version, model_class=self.model_class)
        manifest, profile = self.registry.manifest(name, champion), self.registry.profile(name, champion)
        verdict = judge(serving, manifest, profile, challenger, held_out)
        why = verdict.reason
        self.decide(
            outcome="rejected",
            gate=verdict.better,
            held_out_gate=verdict.worse,
            reason=f"{self.decision.reason}; {why}",
        )
        if not verdict.promote:
            return
        if not promote:
            self.decide(
                outcome="challenger",
                reason=f"{self.decision.reason}. It waits for a person: inflight models promote {name}:{run.version}",
            )
            return

        def replace_champion(aliases: dict[str, str]) -> str | None:
            found = aliases.get(CHAMPION)
            if found == champion:
                aliases[CHAMPION] = run.version
            return found

        found = self.registry.change_aliases(name, replace_champion, reason=why)
        if found != champion:
            self.decide(reason=f"{self.decision.reason}; but {found} became the champion in the meantime")
            return
        self.decide(outcome="promoted")


def champion_recipe(registry: Registry, model: Model, champion: str) -> dict[str, Any]:
    """The candidate and params of the champion as arguments of `train`, if the candidate still exists."""
    params = registry.manifest(model.name, champion).params
    for candidate in model.candidates():
        if candidate.name == params.get("candidate"):
            return {"candidate": candidate, "params": params.get("params", {})}
    return {}

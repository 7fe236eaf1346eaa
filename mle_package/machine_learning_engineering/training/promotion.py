"""The promotion rule: when a new version replaces the champion without a person.

Training, quick training and retraining all use it. A version becomes the champion if

1. it is better than the champion on rows that were held out from its own training data (after a retraining: from the
   fresh data), and
2. it is not worse than the champion on the rows that were held out when the champion was trained, which are stored in
   the champion's profile.

Both models predict the same rows. "Better" and "worse" are paired permutation tests of the primary metric at the level
`SIGNIFICANCE`, in which rows of one group are one unit. The first condition says that the version is better for the new
data. The second says that the new data are not another task: an odd export, or labels that somebody has made up.

The first version of a model, and one whose champion can't be opened, is promoted without a comparison. If a comparison
is impossible (too few rows, an undefined metric, a champion without stored rows), the version waits for a person:
`inflight models promote`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from machine_learning_engineering.core.model import Model
from machine_learning_engineering.drift.profile import Profile
from machine_learning_engineering.evaluation.permutation import PermutationTest, paired_permutation_test
from machine_learning_engineering.evaluation.splits import HeldOut
from machine_learning_engineering.registry.aliases import Aliases
from machine_learning_engineering.registry.manifest import Manifest, RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.uri import CHAMPION

SIGNIFICANCE = 0.05
"""Probability that a version that is as good as the champion passes the first test, or fails the second."""


class Verdict(NamedTuple):
    """Whether the rule promotes a version, and why.

    `better` is the test on the version's held-out rows: `observed` is its metric, `reference` the champion's. `worse`
    is the test on the champion's held-out rows, the other way around: `observed` is the champion's metric, `reference`
    the version's. Each is None if it was not made.
    """

    promote: bool
    reason: str
    better: PermutationTest | None = None
    worse: PermutationTest | None = None


class _Incomparable(Exception):
    """Two models can't be compared on these rows; the message says why."""


def promote_if_better(
    registry: Registry,
    challenger: Model,
    held_out: HeldOut,
    *,
    decided: Callable[[bool, str], None] = lambda promoted, reason: None,
) -> Verdict:
    """Promote a saved version if the rule says so.

    Args:
        challenger: The model with its version.
        held_out: Rows held out from its training data.
        decided: Called with the decision and its reason before it takes effect; again if another machine has changed
            the champion since. If it raises, the champion stays.

    Raises:
        CorruptModel: The aliases are unreadable.
    """

    def change(aliases: Aliases) -> Verdict:
        verdict = _judge_in(registry, aliases.get(CHAMPION), challenger, held_out)
        decided(verdict.promote, verdict.reason)
        if verdict.promote:
            aliases[CHAMPION] = challenger.version
            aliases.reason = verdict.reason
        return verdict

    return registry.change_aliases(challenger.name, change)


def _judge_in(registry: Registry, champion: str | None, challenger: Model, held_out: HeldOut) -> Verdict:
    if champion is None:
        return Verdict(True, "the first version")
    name = challenger.name
    try:
        opened = registry.open(name, champion, model_class=type(challenger))
        manifest, profile = registry.manifest(name, champion), registry.profile(name, champion)
    except RegistryError as error:
        return Verdict(True, f"the champion {champion} can't be opened: {error}")
    return judge(opened, manifest, profile, challenger, held_out)


def judge(
    champion: Model, manifest: Manifest, profile: Profile | None, challenger: Model, held_out: HeldOut
) -> Verdict:
    """Apply the rule to two opened models.

    Args:
        manifest: The champion's.
        profile: The champion's; None if it has none.
        held_out: Rows held out from the challenger's data.
    """
    ours, its = challenger.version, champion.version
    by_hand = f"to promote it nevertheless: inflight models promote {challenger.name}:{ours}"
    remark = _remark(champion, manifest, held_out)
    try:
        better = _test(champion, challenger, held_out)
    except _Incomparable as error:
        return Verdict(False, f"{ours} can't be compared with {its}: {error}{remark}; {by_hand}")
    reason = (
        f"{better.metric} {better.observed:.5g} of {ours} is {'' if better.significant else 'not significantly '}"
        f"better than {better.reference:.5g} of {its} on {better.rows} held-out rows (p = {better.p_value:.2g})"
    )
    if not better.significant:
        return Verdict(False, reason + remark, better)
    try:
        worse = _test(challenger, champion, _stored_rows(champion, profile))
    except _Incomparable as error:
        why = f"they can't be compared on the rows that were held out for {its}: {error}; {by_hand}"
        return Verdict(False, f"{reason}{remark}, but {why}", better)
    compared = (
        f"worse on the {worse.rows} rows that were held out for {its}: {worse.reference:.5g} against "
        f"{worse.observed:.5g} (p = {worse.p_value:.2g})"
    )
    if worse.significant:
        why = f"either the data have changed for good, or they are another task or wrongly labelled; {by_hand}"
        return Verdict(False, f"{reason}{remark}, but {compared}: {why}", better, worse)
    return Verdict(True, f"{reason}{remark}, and not significantly {compared}", better, worse)


def _test(reference: Model, observed: Model, held_out: HeldOut) -> PermutationTest:
    """Test whether `observed` is better than `reference`.

    Raises:
        _Incomparable: One of them fails, the metric is undefined, or a difference could never be significant.
    """
    rows, labels, groups, seed = held_out
    # The probability of the permutation that swaps nothing is the least possible p-value.
    if 0.5 ** len(set(groups)) > SIGNIFICANCE:
        raise _Incomparable(f"{len(rows)} rows are too few to show a difference")
    try:
        return paired_permutation_test(
            observed,
            _predict(reference, rows),
            _predict(observed, rows),
            labels,
            significance=SIGNIFICANCE,
            seed=seed,
            groups=groups,
        )
    except ValueError as error:
        raise _Incomparable(str(error)) from error


def _predict(model: Model, rows: Sequence[Any]) -> Sequence[Any]:
    try:
        if rows and not isinstance(rows[0], model.Features):
            # Another version of an adopted model may declare other features.
            rows = [model.decode(msgspec.json.encode(row)) for row in rows]
        return model.predict(rows)
    except Exception as error:  # Whatever the code of a model raises, training goes on and the champion stays.
        raise _Incomparable(f"{model.version} fails on the rows ({type(error).__name__}: {error})") from error


def _stored_rows(champion: Model, profile: Profile | None) -> HeldOut:
    """The rows that were held out when the champion was trained."""
    stored = [] if profile is None else profile.held_out_rows
    if not stored:
        raise _Incomparable("its profile holds no held-out rows")
    try:
        rows = [champion.decode(msgspec.json.encode(row.features)) for row in stored]
        labels = [msgspec.convert(row.label, champion.Label) for row in stored]
    except ValueError as error:
        raise _Incomparable(f"its held-out rows don't fit the model's schema ({error})") from error
    return HeldOut(rows, labels, [b"%d" % row.group for row in stored], 0)


def _remark(champion: Model, manifest: Manifest, held_out: HeldOut) -> str:
    """A remark if the champion may have been fitted on some of the rows."""
    same_seed = manifest.seed == held_out.seed
    # Hashes depend on the seed. Without a recorded hash the champion may have been fitted on any row.
    if same_seed and manifest.params.get("train_min_hash", 0.0) > held_out.max_hash:
        return ""
    how = "in another way" if same_seed else "with another seed"
    return f" ({champion.version} may have been fitted on some of these rows: its own were held out {how})"

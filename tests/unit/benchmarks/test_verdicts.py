"""Simulated streams, looked at all the time: few are decided wrongly. `python -m benchmarks.verdicts` has more."""

import math

from benchmarks.verdicts import POLICY, simulate
from machine_learning_engineering.rollout.judging import failing_alpha
from tests.support.doses import FULL

STREAMS = 2_000 if FULL else 60


def most(alpha: float) -> int:
    """A number of streams that more than this share exceeds with a probability of less than one in a million."""
    at_most, found = 0.0, -1
    while at_most < 1 - 1e-6:
        found += 1
        at_most += math.comb(STREAMS, found) * alpha**found * (1 - alpha) ** (STREAMS - found)
    return found


def test_few_are_decided_wrongly_however_often_they_are_looked_at() -> None:
    rows = {row.case: row for row in simulate(STREAMS, seed=7)}
    wrong = {case: sum(one is not None for one in row.ours) for case, row in rows.items()}
    for case, number in wrong.items():
        if "no difference" in case or "at the limit" in case:
            alpha = POLICY.alpha if case.endswith("promoted") else failing_alpha(POLICY)
            assert number <= most(alpha), case
    # The naive test, on the same streams, shows that the simulation could find it.
    shadow = next(row for case, row in rows.items() if case.startswith("shadow, no difference"))
    assert sum(one is not None for one in shadow.peeked) > most(POLICY.alpha)
    better = next(row for case, row in rows.items() if case.startswith("shadow, better"))
    assert all(one is not None for one in better.ours)

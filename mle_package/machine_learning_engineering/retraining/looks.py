"""One false-alarm rate for a year of looking at the evidence, however often somebody looks.

Look number k has the level alpha / (k * (k + 1)). These levels sum to alpha, so by the union bound the probability of
any false alarm in the year is at most alpha, whatever the number of looks and however they depend on one another.
"""

from datetime import timedelta

from machine_learning_engineering.rollout.policy import RetrainingPolicy

YEAR = timedelta(days=365)


def significance(policy: RetrainingPolicy, look: int) -> float:
    """The level of a look at drift or at quality, which share the rate if both are triggers. Looks count from 1."""
    kinds = policy.drift + policy.quality
    return policy.false_alarms_per_year / kinds / (look * (look + 1))

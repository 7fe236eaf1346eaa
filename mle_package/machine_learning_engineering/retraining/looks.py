"""One false alarm rate for a year of looking: the significance of each look at a model that nobody has changed. Pure.

A test at 1 % a look raises a false alarm in most years if somebody looks every day. Here a rate for the year is spent
over time instead: a look may spend what has accrued since the one before. Whatever the schedule, and however much the
data of two looks overlap or depend on each other, the probability of a false alarm in a year is at most the sum of what
is spent in it (Bonferroni), and that is at most the rate.

Why no e-process over the windows: all windows are compared with the same reference rows. If these are untypical by
chance, every window shows it, and products of evidence would multiply it. The sum of probabilities needs no
independence.

Source: K. K. G. Lan and D. L. DeMets, Discrete sequential boundaries for clinical trials, Biometrika 70, 1983 (error
spending), here with Bonferroni's bound in place of joint distributions.
"""

from datetime import datetime, timedelta

from msgspec import Struct

from machine_learning_engineering.events.measurements import DriftDetected, FieldDrift

YEAR = timedelta(days=365)
FIRST = 0.1
"""Share of the rate that the first look may spend; the rest accrues evenly over the year."""
LONGEST = YEAR / 10
"""What accrues over a longer pause is lost: otherwise a year could begin with what the one before has left."""
SMALLEST = 1e-5
"""A look at a smaller significance is put off: a permutation test would need half a million permutations."""


class Looks(Struct, frozen=True, omit_defaults=True):
    """The looks at one model by one test, such as its live metric; store it after each look.

    Drift and quality each get half of a policy's `false_alarms_per_year`; then both together keep it::

        looks = Looks()                              # or as it was stored
        significance = looks.significance(now, policy.false_alarms_per_year / 2)
        if significance:                             # else it is too early to look again
            looks = looks.after(now)                 # store it before the test: a crash must not look twice
            trigger_retraining(..., significance=significance)
    """

    number: int = 0
    last_at: datetime | None = None

    def significance(self, at: datetime, rate: float) -> float:
        """Significance of a look at this time, or 0 if too little has accrued since the last one.

        With r the rate and t the time since the last look, at most a tenth of a year::

            r / 10 at the first look, then r * 9/10 * t / year

        In the year of the first look the sum is at most r/10 + 9r/10. In any other it is at most 9r/10 and what had
        accrued when it began, 9r/100.

        >>> from datetime import UTC
        >>> monday = datetime(2026, 11, 30, tzinfo=UTC)
        >>> round(Looks().significance(monday, 0.1), 6)
        0.01
        >>> round(Looks().after(monday).significance(monday + timedelta(days=1), 0.1), 6)
        0.000247

        Args:
            at: With a time zone. Before the last look, as after a clock was set back, the result is 0.
            rate: Probability of a false alarm in a year, between 0 and 1.
        """
        if self.last_at is None:
            return rate * FIRST
        accrued = rate * (1 - FIRST) * (min(at - self.last_at, LONGEST) / YEAR)
        return accrued if accrued >= SMALLEST else 0.0

    def after(self, at: datetime) -> "Looks":
        """The state after a look at this time."""
        return Looks(self.number + 1, at if self.last_at is None else max(at, self.last_at))


def window_significance(start: datetime, end: datetime, rate: float) -> float:
    """Significance of one of the drift monitor's windows: the part of the rate that falls into the window's time.

    Windows of one drift monitor follow each other, so those of a year spend at most the rate, in whatever sizes they
    close, and no state is needed. Several drift monitors look at windows of their own at the same time: their number
    times the rate is then the bound.

    >>> from datetime import UTC
    >>> start = datetime(2026, 11, 30, tzinfo=UTC)
    >>> round(window_significance(start, start + timedelta(hours=1), 0.05), 8)
    5.71e-06
    """
    return rate * max(0.0, min(1.0, (end - start) / YEAR))


def drift_that_counts(event: DriftDetected, rate: float) -> list[FieldDrift]:
    """The fields of a drifted window that are a reason to retrain at a false alarm rate for the year.

    `p_adjusted` covers all tests of the window, and the event has its fields by their least population stability index
    already. Windows that drifted at the drift monitor's own significance, but not at this one, alert people only.
    """
    significance = window_significance(event.window_start, event.window_end, rate)
    return [field for field in event.fields if field.p_adjusted <= significance]

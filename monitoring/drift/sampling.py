"""A bound on the cost: at most a certain rate of rows per version, sampled by a hash of their offsets."""

from hashlib import blake2b

from msgspec import Struct

from machine_learning_engineering.events.schemas import Timestamp
from monitoring.drift.batch import Row

BURST_SECONDS = 60.0
"""How much of the rate may accumulate: one minute's worth of rows may come at once and is counted completely."""


class SampleBudget(Struct, frozen=True):
    """How many rows may be counted at the time of the newest row.

    Time is that of the stream: whoever reads the same records samples the same rows, at any speed.
    """

    rows: float
    at: Timestamp


def sample(budget: SampleBudget | None, run: list[Row], rows_per_second: float) -> tuple[list[Row], SampleBudget]:
    """The rows of a run to count, in order, and the remaining budget: a token bucket of `BURST_SECONDS`.

    Args:
        budget: the result of the version's previous run in this partition; None before the first one.
        run: the next rows, at least one.
        rows_per_second: the long-run rate.
    """
    burst = rows_per_second * BURST_SECONDS
    at = max(row.accepted_at for row in run)
    if budget is None or (budget.at - at).total_seconds() > BURST_SECONDS:
        # The first rows, or an earlier clock was ahead: its time would allow no rows until then.
        allowed = burst
    else:
        at = max(at, budget.at)
        allowed = min(burst, budget.rows + (at - budget.at).total_seconds() * rows_per_second)
    # At least one row, so that a small budget still shows something of each version.
    count = max(1, int(allowed))
    if len(run) <= count:
        return run, SampleBudget(max(0.0, allowed - len(run)), at)
    # Not of their request ids: senders choose these, and could fill the sample with their own rows. The broker chooses
    # offsets.
    order = sorted(range(len(run)), key=lambda index: blake2b(b"%d" % run[index].offset, digest_size=8).digest())
    return [run[index] for index in sorted(order[:count])], SampleBudget(max(0.0, allowed - count), at)

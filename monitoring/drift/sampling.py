"""A bound to the cost: of a version's rows only so many a second are looked at, chosen by a hash of their ids."""

from datetime import datetime
from zlib import crc32

from msgspec import Struct

from monitoring.drift.batch import Row

BURST_SECONDS = 60.0
"""What may be saved up: a minute's worth of rows can come at once and is looked at whole."""


class Budget(Struct, frozen=True):
    """How many rows may be looked at as of the newest row's time. By the stream's time, not by ours: whoever reads the
    same records looks at the same rows, however fast."""

    rows: float
    at: datetime


def within(budget: Budget | None, run: list[Row], per_second: float) -> tuple[list[Row], Budget]:
    """The rows of a run that are looked at, in order, and what is left of the budget."""
    burst = per_second * BURST_SECONDS
    at = max(row.accepted_at for row in run)
    if budget is None or (budget.at - at).total_seconds() > BURST_SECONDS:
        # The first rows, or the clock was ahead: by its time nothing would be looked at until then.
        allowed = burst
    else:
        at = max(at, budget.at)
        allowed = min(burst, budget.rows + (at - budget.at).total_seconds() * per_second)
    # At least one: else nothing is ever seen of a version under so small a budget.
    most = max(1, int(allowed))
    if len(run) <= most:
        return run, Budget(max(0.0, allowed - len(run)), at)
    order = sorted(range(len(run)), key=lambda index: crc32(run[index].request_id.encode()))
    return [run[index] for index in sorted(order[:most])], Budget(max(0.0, allowed - most), at)

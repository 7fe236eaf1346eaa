"""The point-in-time join: of each key the latest row at a moment or before, never a later one."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def as_of(
    keys: Sequence[str], times: Integers, wanted_keys: Sequence[str], wanted_times: Integers, ttl: int | None = None
) -> Integers:
    """For each wanted key and time the index of the row to use, or -1 if there is none.

    Args:
        keys: of the rows, in any order; of two with one key and time the later row counts.
        times: of the rows, in the unit of `wanted_times` and `ttl`.
        ttl: rows that are older than this at the wanted time are left out.
    """
    codes: dict[str, int] = {}
    row_codes = np.array([codes.setdefault(key, len(codes)) for key in keys], dtype=np.int64)
    codes_wanted = np.array([codes.get(key, -1) for key in wanted_keys], dtype=np.int64)
    if not len(row_codes):
        return np.full(len(wanted_times), -1, dtype=np.int64)
    # Key and time as one number that sorts by both: times are replaced by their ranks, so that the product fits.
    moments, ranks = np.unique(np.concatenate([times, wanted_times]), return_inverse=True)
    row_ranks, ranks_wanted = ranks[: len(times)], ranks[len(times) :]
    places = row_codes * len(moments) + row_ranks
    order = np.argsort(places, kind="stable")
    found = np.searchsorted(places[order], codes_wanted * len(moments) + ranks_wanted, side="right") - 1
    chosen: Integers = np.where(found >= 0, order[np.maximum(found, 0)], -1)
    # What sorts right before may be of another key.
    chosen[(codes_wanted < 0) | (row_codes[chosen] != codes_wanted)] = -1
    if ttl is not None:
        chosen[(chosen >= 0) & (wanted_times - times[chosen] > ttl)] = -1
    return chosen

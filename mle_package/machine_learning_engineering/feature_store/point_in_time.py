"""Point-in-time join: the latest row of each key at or before a time, never a later one."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def as_of(
    keys: Sequence[str], times: Integers, wanted_keys: Sequence[str], wanted_times: Integers, ttl: int | None = None
) -> Integers:
    """Find the latest row at or before each wanted time (an "as of" join).

    Args:
        keys: Key of each row, shape (n,), in any order.
        times: Time of each row, shape (n,), in the unit of `wanted_times` and `ttl`. Of two rows with the same key and
            time the later one in the sequence counts.
        wanted_keys: Keys to look up, shape (m,).
        wanted_times: Times to look them up at, shape (m,).
        ttl: Maximum age of a row at the wanted time.

    Returns:
        Index of the row for each wanted key and time, shape (m,); -1 if there is none.

    Examples:
        >>> as_of(["a", "a"], np.array([1, 5]), ["a", "a", "b"], np.array([4, 5, 9])).tolist()
        [0, 1, -1]
    """
    codes: dict[str, int] = {}
    row_codes = np.array([codes.setdefault(key, len(codes)) for key in keys], dtype=np.int64)
    codes_wanted = np.array([codes.get(key, -1) for key in wanted_keys], dtype=np.int64)
    if not len(row_codes):
        return np.full(len(wanted_times), -1, dtype=np.int64)
    # One integer that sorts by key and then time. Times become ranks, so that the product fits 64 bits.
    unique_times, ranks = np.unique(np.concatenate([times, wanted_times]), return_inverse=True)
    row_ranks, ranks_wanted = ranks[: len(times)], ranks[len(times) :]
    places = row_codes * len(unique_times) + row_ranks
    order = np.argsort(places, kind="stable")
    found = np.searchsorted(places[order], codes_wanted * len(unique_times) + ranks_wanted, side="right") - 1
    chosen: Integers = np.where(found >= 0, order[np.maximum(found, 0)], -1)
    # The preceding row may belong to another key.
    chosen[(codes_wanted < 0) | (row_codes[chosen] != codes_wanted)] = -1
    if ttl is not None:
        chosen[(chosen >= 0) & (wanted_times - times[chosen] > ttl)] = -1
    return chosen

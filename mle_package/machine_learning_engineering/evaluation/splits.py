"""Train/test splits by hash and folds for cross-validation; a group stays on one side."""

import hashlib
from collections.abc import Hashable, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np

HELD_OUT = 0.2
"""About this share of the rows is held out: metrics are measured on it, and no model ever sees it."""


FOLDS = 5


FEW_ROWS = 5_000
"""With fewer rows, cross-validation is repeated on other folds, because its result depends on them."""


REPEATS = 4


Fold = tuple[list[int], list[int]]
"""The indices of the rows to fit on and of those to measure on."""


_Group = TypeVar("_Group", bound=Hashable)


def hash_fraction(group: bytes, seed: int) -> float:
    """Where a group falls between 0 and 1: by chance, but whatever it is beside, and on every machine the same."""
    return int.from_bytes(hashlib.blake2b(group, key=str(seed).encode(), digest_size=6).digest()) / 2**48


def split(count: int, seed: int, groups: Sequence[bytes] | None = None) -> tuple[list[int], list[int]]:
    """The indices of the rows to fit on and of those held out, both in the order of their places.

    Held out is whose place is below `HELD_OUT`, so that a row stays on its side when others are added. Only where that
    is less than half of the share, as it may be among few rows, the next ones are held out too until it is the share.

    Args:
        groups: of each row, what it is never split from; without it a row is known by its number.

    Raises:
        ValueError: there are too few rows.
    """
    members = _members([b"%d" % row for row in range(count)] if groups is None else groups)
    if len(members) < 3:
        raise ValueError(f"{count} rows are too few to train on: at least 3 that differ are needed")
    places = {group: hash_fraction(group, seed) for group in members}
    ordered = sorted(places, key=places.__getitem__)
    few = sum(len(members[group]) for group in ordered if places[group] < HELD_OUT) < count * HELD_OUT / 2
    held_out: list[int] = []
    taken = 0
    for group in ordered[:-1]:
        if len(held_out) >= count * HELD_OUT if few else places[group] >= HELD_OUT:
            break
        held_out.extend(members[group])
        taken += 1
    return [row for group in ordered[taken:] for row in members[group]], held_out


def folds(groups: Sequence[Hashable], count: int, seed: int) -> list[Fold]:
    """Parts of about equal size, each measured on in turn; rows of one group are in one part.

    Raises:
        ValueError: there are fewer groups than parts.
    """
    members = list(_members(groups).values())
    if len(members) < count:
        raise ValueError(f"{len(members)} different rows are too few for {count} folds")
    parts: list[list[int]] = [[] for _ in range(count)]
    for index in np.random.default_rng(seed).permutation(len(members)).tolist():
        min(parts, key=len).extend(members[index])
    return [([row for other in parts if other is not part for row in other], part) for part in parts]


def cross_validation(groups: Sequence[Hashable], seed: int) -> list[Fold]:
    """The folds that candidates are compared on: five, on other folds again if there are few rows."""
    repeats = REPEATS if len(groups) < FEW_ROWS else 1
    return [fold for repeat in range(repeats) for fold in folds(groups, FOLDS, seed + repeat)]


def split_key(group: str | None, row: Any) -> bytes:
    """What a row must not be split from: its group, or else the rows that equal it, wherever they were found."""
    return msgspec.json.encode(row, order="sorted") if group is None else b"group " + group.encode()


def _members(groups: Sequence[_Group]) -> dict[_Group, list[int]]:
    """The rows of each group, groups in the order in which they are first seen."""
    found: dict[_Group, list[int]] = {}
    for index, group in enumerate(groups):
        found.setdefault(group, []).append(index)
    return found

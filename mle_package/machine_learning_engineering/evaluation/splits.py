"""Train/test splits by hash, and folds for cross-validation. Rows of one group are never split."""

import hashlib
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

HELD_OUT = 0.2
"""Approximate share of rows that are held out for testing. No model is fitted on them."""
FOLDS = 5
FEW_ROWS = 5_000
"""Below this number of rows cross-validation is repeated with other folds, because its result depends on them."""
REPEATS = 4

Fold = tuple[list[int], list[int]]
"""Indices of the rows to fit on and of the rows to measure on."""
_Group = TypeVar("_Group", bound=Hashable)


class HeldOut(NamedTuple):
    """Rows that a model was not fitted on, with labels and split keys (`split_key`), held out by hash with `seed`."""

    rows: list[Any]
    labels: list[Any]
    groups: list[bytes]
    seed: int

    @classmethod
    def select(
        cls, rows: Sequence[Any], labels: Sequence[Any], groups: Sequence[bytes], chosen: Sequence[int], seed: int
    ) -> "HeldOut":
        """The rows with the indices `chosen`."""
        return cls([rows[i] for i in chosen], [labels[i] for i in chosen], [groups[i] for i in chosen], seed)

    @property
    def max_hash(self) -> float:
        """Highest hash fraction of a row: a model with a higher `train_min_hash` was fitted on none of them."""
        return max(hash_fraction(group, self.seed) for group in set(self.groups))


def hash_fraction(key: bytes, seed: int) -> float:
    """Map a split key to a pseudo-random number in [0, 1), the same on every machine and in every dataset.

    >>> hash_fraction(b"a", 1)
    0.6404735159979005
    """
    return int.from_bytes(hashlib.blake2b(key, key=str(seed).encode(), digest_size=6).digest()) / 2**48


def split_key(group: str | None, row: Any) -> bytes:
    """Key of the rows that must stay on one side: the group, or else all rows with equal features."""
    return msgspec.json.encode(row, order="sorted") if group is None else b"group " + group.encode()


def split(count: int, seed: int, groups: Sequence[bytes] | None = None) -> tuple[list[int], list[int]]:
    """Split rows into a training and a test set by the hash of their group.

    Groups with a hash fraction below `HELD_OUT` are held out, so a row keeps its side when others are added. In a small
    dataset these may be less than half of the share; then the groups with the next hashes are held out too, until the
    share is reached.

    Args:
        count: Number of rows.
        groups: Split key of each row, of length `count`. Without it each row is its own group, known by its index.

    Returns:
        Indices of the training rows and of the test rows, both by ascending hash.

    Raises:
        ValueError: There are fewer than three groups.
    """
    members = _members([b"%d" % row for row in range(count)] if groups is None else groups)
    if len(members) < 3:
        raise ValueError(f"{count} rows are too few to train on: at least 3 different ones are needed")
    fractions = {group: hash_fraction(group, seed) for group in members}
    ordered = sorted(fractions, key=fractions.__getitem__)
    few = sum(len(members[group]) for group in ordered if fractions[group] < HELD_OUT) < count * HELD_OUT / 2
    held_out: list[int] = []
    taken = 0
    for group in ordered[:-1]:
        if len(held_out) >= count * HELD_OUT if few else fractions[group] >= HELD_OUT:
            break
        held_out.extend(members[group])
        taken += 1
    return [row for group in ordered[taken:] for row in members[group]], held_out


def folds(groups: Sequence[Hashable], count: int, seed: int) -> list[Fold]:
    """Split rows into `count` folds of similar size. Rows of one group are in one fold.

    Groups are shuffled, then each goes to the smallest fold so far.

    Raises:
        ValueError: There are fewer groups than folds.
    """
    members = list(_members(groups).values())
    if len(members) < count:
        raise ValueError(f"{len(members)} different rows are too few for {count} folds")
    parts: list[list[int]] = [[] for _ in range(count)]
    for index in np.random.default_rng(seed).permutation(len(members)).tolist():
        min(parts, key=len).extend(members[index])
    return [([row for other in parts if other is not part for row in other], part) for part in parts]


def cross_validation(groups: Sequence[Hashable], seed: int) -> list[Fold]:
    """Folds for comparing candidates: five, or four times five other ones if there are fewer than `FEW_ROWS` rows."""
    repeats = REPEATS if len(groups) < FEW_ROWS else 1
    return [fold for repeat in range(repeats) for fold in folds(groups, FOLDS, seed + repeat)]


def group_codes(groups: Sequence[Hashable]) -> NDArray[np.int64]:
    """Number of each row's group, counted from 0 in order of first appearance.

    >>> group_codes(["b", "a", "b"]).tolist()
    [0, 1, 0]
    """
    codes: dict[Hashable, int] = {}
    return np.array([codes.setdefault(group, len(codes)) for group in groups], dtype=np.int64)


def _members(groups: Sequence[_Group]) -> dict[_Group, list[int]]:
    """Row indices of each group, in order of first appearance."""
    found: dict[_Group, list[int]] = {}
    for index, group in enumerate(groups):
        found.setdefault(group, []).append(index)
    return found

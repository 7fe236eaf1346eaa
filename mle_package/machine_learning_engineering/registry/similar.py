"""The index of similar rows, a file of a version: its training rows with their labels, sorted for a binary search.

JSON Lines: the declaration, then a row a line, ``{"features": {...}, "label": ...}``. Rows with equal values of the
features `by` follow one another, ordered by the feature `nearest`; rows that are equal in both keep the order of the
training data. So the file can be read with any tool, and reading it runs no code.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from decimal import Context, Decimal
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from machine_learning_engineering.core.similarity import Key, Similarity, values
from machine_learning_engineering.registry import artifacts
from machine_learning_engineering.registry.files import RegistryFiles
from machine_learning_engineering.registry.manifest import CorruptModel, Manifest

SIMILAR_FILE = "similar.jsonl"
MAX_BYTES = 64 * 1024 * 1024
"""Maximum size of an index. A training with more rows publishes none."""

_encode = msgspec.json.Encoder().encode
# Distances are those of the numbers as people write them: 0.31 and 0.29 are equally far from 0.3. No difference of two
# floats has more digits.
_exact = Context(prec=700)


class SimilarRow(Struct, frozen=True):
    """A row of a training set, features and label as JSON text, and its distance."""

    features: Raw
    label: Raw
    distance: float


class Nearest(NamedTuple):
    """What a search finds."""

    rows: list[SimilarRow]
    """The nearest first."""
    total: int
    """Number of rows with equal values of the features `by`."""
    ties: int
    """Number of further rows that are as near as the last one."""


class _Row(Struct):
    features: Raw
    label: Raw


class _WholeRow(Struct):
    features: dict[str, Any]
    label: Any


_decode_header = msgspec.json.Decoder(Similarity).decode
_decode_row = msgspec.json.Decoder(_Row).decode
_decode_whole_row = msgspec.json.Decoder(_WholeRow).decode


def encode(similarity: Similarity, rows: Sequence[dict[str, Any]], labels: Sequence[Any]) -> bytes | None:
    """Write an index. Rows without a value of one of the features are left out.

    Args:
        similarity: which rows are similar.
        rows: features of the training rows as JSON values; names that are left out stay private.
        labels: their labels.

    Returns:
        The file; None if it would be larger than `MAX_BYTES`.
    """
    groups: dict[Key, list[tuple[float, int]]] = {}
    for number, features in enumerate(rows):
        if (found := values(features, similarity)) is not None:
            groups.setdefault(found[0], []).append((found[1], number))
    lines = [_encode(similarity)]
    size = len(lines[0]) + 1
    for group in groups.values():
        for _, number in sorted(group):
            lines.append(_encode({"features": rows[number], "label": labels[number]}))
            size += len(lines[-1]) + 1
            if size > MAX_BYTES:
                return None
    return b"\n".join(lines) + b"\n"


class SimilarIndex:
    """An index in memory: the file, and 16 bytes a row. It is never changed, so any thread may search it.

    Args:
        content: of the file.

    Raises:
        ValueError: It is not an index.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        # Where each line ends; row i is line i + 1.
        self._ends = array("q")
        self._nearest = array("d")
        self._groups: dict[Key, tuple[int, int]] = {}
        lines = self._lines()
        self.similarity = _decode_header(next(lines, b""))
        last: Key | None = None
        # Line by line, so that other threads run in between.
        for number, line in enumerate(lines):
            found = values(_decode_whole_row(line).features, self.similarity)
            if found is None:
                raise ValueError(f"row {number} has no value to compare")
            key, nearest = found
            if key != last:
                if key in self._groups:
                    raise ValueError(f"row {number} is not beside the rows of its kind")
                self._groups[key] = (number, number)
            elif nearest < self._nearest[-1]:
                raise ValueError(f"row {number} is not in order")
            last = key
            self._nearest.append(nearest)
            self._groups[key] = (self._groups[key][0], number + 1)

    def __len__(self) -> int:
        return len(self._nearest)

    def search(self, key: Key, nearest: float, n: int) -> Nearest:
        """The rows that are equal in the features `by` and the nearest in the feature `nearest`.

        Equally near rows are in the order of their values, and those with equal values in the order of the training
        data. So the same question has the same answer.

        Args:
            key: values of the features `by`, in their order.
            nearest: a finite value of the feature `nearest`.
            n: number of rows, at least 1; there may be fewer.
        """
        start, stop = self._groups.get(key, (0, 0))
        rows: list[SimilarRow] = []
        ties, last = 0, None
        for distance, run in self._runs(start, stop, nearest):
            if len(rows) == n and distance != last:
                break
            taken = run[: n - len(rows)]
            rows += [self._row(number, float(distance)) for number in taken]
            ties = (ties if distance == last else 0) + len(run) - len(taken)
            last = distance
        return Nearest(rows, stop - start, ties)

    def _runs(self, start: int, stop: int, nearest: float) -> Iterator[tuple[Decimal, range]]:
        """Runs of rows with one value, the nearest first, and the lesser value of two that are equally near."""
        numbers, wanted = self._nearest, Decimal(repr(nearest))

        def distance(number: int) -> Decimal:
            return _exact.subtract(Decimal(repr(numbers[number])), wanted).copy_abs()

        low = high = bisect_left(numbers, nearest, start, stop)
        while start < low or high < stop:
            if high == stop or (low > start and distance(low - 1) <= distance(high)):
                end, low = low, bisect_left(numbers, numbers[low - 1], start, low)
                yield distance(low), range(low, end)
            else:
                begin, high = high, bisect_right(numbers, numbers[high], high, stop)
                yield distance(begin), range(begin, high)

    def _row(self, number: int, distance: float) -> SimilarRow:
        row = _decode_row(memoryview(self._content)[self._ends[number] + 1 : self._ends[number + 1]])
        return SimilarRow(row.features, row.label, distance)

    def _lines(self) -> Iterator[memoryview]:
        content, start = memoryview(self._content), 0
        while (end := self._content.find(b"\n", start)) >= 0:
            self._ends.append(end)
            yield content[start:end]
            start = end + 1
        if start < len(self._content):
            raise ValueError("the last line has no end")


def read(files: RegistryFiles, manifest: Manifest) -> SimilarIndex | None:
    """Read and verify the index of a version.

    Args:
        files: of the registry.
        manifest: of the version.

    Returns:
        The index; None if the version was saved without one.

    Raises:
        CorruptModel: The file is unreadable, differs from what was saved, or is not an index.
    """
    if SIMILAR_FILE not in manifest.files:
        return None
    try:
        if manifest.files[SIMILAR_FILE].size > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
        return SimilarIndex(artifacts.read_verified(files, manifest, SIMILAR_FILE))
    except (ValueError, RecursionError) as error:
        raise CorruptModel(
            f"{SIMILAR_FILE} of model `{manifest.name}` {manifest.version} is not an index of rows "
            f"({type(error).__name__}: {error!s:.500}): run inflight train {manifest.name}"
        ) from error

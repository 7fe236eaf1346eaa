"""The index of similar rows: the same answers as a search through all rows, and nothing but an index is read."""

import random
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from machine_learning_engineering.core.similarity import Similarity
from machine_learning_engineering.registry import similar
from machine_learning_engineering.registry.manifest import CorruptModel
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.similar import SIMILAR_FILE, SimilarIndex

BY_CUT = Similarity(("cut", "rank"), "carat")
DIAMOND = st.fixed_dictionaries(
    {
        "cut": st.sampled_from(["Fair", "Ideal"]),
        "rank": st.integers(0, 1) | st.none(),
        # A few equal weights, with distances that floats can't tell apart; and any others.
        "carat": st.sampled_from([0.29, 0.3, 0.31, 0.7, 0.71, 1, 2.0]) | st.floats(-1e300, 1e300),
    }
)


def index_of(rows: list[dict[str, Any]], declared: Similarity = BY_CUT) -> SimilarIndex:
    """With the number of each row as its label."""
    content = similar.encode(declared, rows, range(len(rows)))
    assert content is not None
    return SimilarIndex(content)


def brute_force(rows: list[dict[str, Any]], key: tuple[Any, ...], carat: float) -> list[tuple[Fraction, float, int]]:
    """Distance, weight and number of all rows of a kind, the nearest first."""
    return sorted(
        (abs(Fraction(repr(float(row["carat"]))) - Fraction(repr(carat))), float(row["carat"]), number)
        for number, row in enumerate(rows)
        if (row["cut"], row["rank"]) == key
    )


@given(
    rows=st.lists(DIAMOND, max_size=30),
    cut=st.sampled_from(["Fair", "Ideal", "Good"]),
    rank=st.integers(0, 2),
    carat=st.sampled_from([0.3, 0.7, 0.705, 5]) | st.floats(-1e300, 1e300),
    n=st.integers(1, 40),
)
@example(rows=[{"cut": "Fair", "rank": 0, "carat": c} for c in (0.31, 0.29, 0.31)], cut="Fair", rank=0, carat=0.3, n=1)
def test_it_finds_what_a_search_through_all_rows_finds(rows, cut, rank, carat, n):
    found = index_of(rows).search((cut, rank), carat, n)
    wanted = brute_force(rows, (cut, rank), carat)
    assert [msgspec.json.decode(row.label) for row in found.rows] == [number for _, _, number in wanted[:n]]
    assert [row.distance for row in found.rows] == [float(distance) for distance, _, _ in wanted[:n]]
    assert found.total == len(wanted)
    assert found.ties == sum(one[0] == wanted[n - 1][0] for one in wanted[n:])


def test_a_row_has_its_features_and_its_label():
    rows = [{"cut": "Fair", "rank": 1, "carat": 0.5, "x": 3.95}, {"cut": "Fair", "rank": 1, "carat": 0.6, "x": 0.0}]
    [row] = index_of(rows).search(("Fair", 1), 0.58, 1).rows
    assert (msgspec.json.decode(row.features), msgspec.json.decode(row.label), row.distance) == (rows[1], 1, 0.02)


def test_equal_rows_keep_their_order_whatever_is_around_them():
    rows = [{"cut": "Fair", "rank": 1, "carat": 0.5} for _ in range(50)]
    rows += [{"cut": "Ideal", "rank": n % 2, "carat": n / 100} for n in range(50)]
    mixed = list(enumerate(rows))
    random.Random(1).shuffle(mixed)
    content = similar.encode(BY_CUT, [row for _, row in mixed], [number for number, _ in mixed])
    assert content is not None
    labels = [msgspec.json.decode(row.label) for row in SimilarIndex(content).search(("Fair", 1), 0.5, 50).rows]
    assert labels == [number for number, _ in mixed if number < 50]


def test_booleans_and_numbers_are_compared_as_they_are_written():
    declared = Similarity(("polished",), "size")
    index = index_of([{"polished": True, "size": 3}, {"polished": False, "size": 4}], declared)
    assert [row.distance for row in index.search((False,), 3, 5).rows] == [1.0]
    assert index.search((True,), 3, 5).total == 1


@pytest.mark.parametrize("carat", [None, "0.3", True, float("nan"), float("inf"), 10**400])
def test_rows_that_can_not_be_compared_are_left_out(carat):
    index = index_of([{"cut": "Fair", "rank": 1, "carat": carat}, {"cut": "Fair", "rank": 1.5, "carat": 1.0}])
    assert len(index) == 0
    assert index.search(("Fair", 1), 1.0, 3) == similar.Nearest([], 0, 0)


def test_a_set_of_rows_without_end_has_no_index(monkeypatch):
    rows = [{"cut": "Fair", "rank": 1, "carat": 0.5}] * 20
    content = similar.encode(BY_CUT, rows, range(20))
    assert content is not None
    monkeypatch.setattr(similar, "MAX_BYTES", len(content))
    assert similar.encode(BY_CUT, rows, range(20)) == content
    monkeypatch.setattr(similar, "MAX_BYTES", len(content) - 1)
    assert similar.encode(BY_CUT, rows, range(20)) is None


HEADER = b'{"by":["cut"],"nearest":"carat"}\n'
ROW = b'{"features":{"cut":"Fair","carat":%s},"label":1}\n'


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "truncated"),
        (HEADER[:-1], "no end"),
        (HEADER + b"{}\n", "features"),
        (HEADER + b"\n", "truncated"),
        (HEADER + ROW % b"2" + ROW % b"1", "row 1 is not in order"),
        (HEADER + ROW % b"1" + ROW.replace(b"Fair", b"Good") % b"1" + ROW % b"2", "row 2 is not beside"),
        (HEADER + ROW % b"null", "row 0 has no value"),
        (HEADER + ROW % b"1" + (ROW % b"2")[:-1], "no end"),
    ],
)
def test_what_is_no_index_is_refused(content, complaint):
    with pytest.raises(ValueError, match=complaint):
        SimilarIndex(content)


def test_it_is_a_verified_file_of_its_version(tmp_path, doubler):
    registry = Registry(tmp_path)
    declared = Similarity(("unit",), "number")
    content = similar.encode(declared, [{"unit": "m", "number": 2.0}], [4.0])
    options = {"metrics": {"r2": 1.0}, "training_data_sha256": "", "seed": 1}
    version = registry.save(doubler, similar=content, **options)
    without = registry.save(doubler, **options)
    folder = tmp_path / "doubler"
    index = similar.read(registry.files, registry.verify("doubler", version))
    assert index is not None
    assert index.similarity == declared
    assert similar.read(registry.files, registry.manifest("doubler", without)) is None
    (folder / version / SIMILAR_FILE).write_bytes(content[:-2] + b"9\n")
    with pytest.raises(CorruptModel, match=r"similar\.jsonl of model `doubler` v1 has sha256"):
        similar.read(registry.files, registry.manifest("doubler", version))
    with pytest.raises(CorruptModel):
        registry.promote("doubler", version)

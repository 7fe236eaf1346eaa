"""Train/test splits and folds."""

from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.evaluation.splits import (
    FEW_ROWS,
    cross_validation,
    folds,
    hash_fraction,
    split,
    split_key,
)

GROUPS = st.lists(st.integers(0, 30).map(lambda number: b"%d" % number), min_size=3, max_size=120).filter(
    lambda groups: len(set(groups)) >= 5
)


@given(groups=GROUPS, seed=st.integers(0, 99))
def test_a_group_is_never_on_both_sides_and_no_row_is_lost(groups, seed):
    fitting, held_out = split(len(groups), seed, groups)
    assert sorted(fitting + held_out) == list(range(len(groups)))
    assert not {groups[row] for row in fitting} & {groups[row] for row in held_out}
    assert fitting
    assert len(held_out) >= min(len(groups) * 0.1, len(groups) - max(Counter(groups).values()))
    assert max(hash_fraction(groups[row], seed) for row in held_out) < min(
        hash_fraction(groups[row], seed) for row in fitting
    )


@given(groups=GROUPS, seed=st.integers(0, 99))
def test_each_row_is_measured_in_one_fold_beside_none_of_its_group(groups, seed):
    found = folds(groups, 5, seed)
    assert sorted(row for _, measuring in found for row in measuring) == list(range(len(groups)))
    for fitting, measuring in found:
        assert sorted(fitting + measuring) == list(range(len(groups)))
        assert not {groups[row] for row in fitting} & {groups[row] for row in measuring}
    largest = max(Counter(groups).values())
    sizes = [len(measuring) for _, measuring in found]
    assert max(sizes) - min(sizes) <= largest


def test_what_was_held_out_stays_so_whatever_is_added_in_whatever_order():
    first, new = [b"old %d" % row for row in range(600)], [b"new %d" % row for row in range(600)]
    together = [*new, *reversed(first), *first]
    before = {first[row] for row in split(len(first), 7, first)[1]}
    after = {together[row] for row in split(len(together), 7, together)[1]}
    assert before == after & set(first)
    assert 60 < len(before) < 180
    assert 60 < len(after - before) < 180


def test_a_place_is_the_same_on_every_machine():
    """Another one would let a champion of before be measured on rows that it was fitted on."""
    assert hash_fraction(b"a", 1) == 0.6404735159979005


def test_about_a_fifth_is_held_out_by_any_seed():
    for seed in range(20):
        assert 1_800 < len(split(10_000, seed)[1]) < 2_200


def test_where_the_lowest_fifth_has_too_few_rows_the_next_are_held_out():
    """So it is with the rest of a split, of which nothing is below a fifth any more."""
    rest = [b"%d" % row for row in split(200, 3)[0]]
    fitting, held_out = split(len(rest), 3, rest)
    assert len(held_out) == np.ceil(len(rest) * 0.2)
    assert split(len(fitting), 3, [rest[row] for row in fitting])[1]


def test_where_all_groups_are_large_one_is_held_out():
    groups = [b"1"] * 4 + [b"2"] * 3 + [b"3"] * 4
    for seed in range(20):
        fitting, held_out = split(11, seed, groups)
        assert fitting
        assert held_out


def test_equal_rows_are_one_group_however_their_values_are_ordered():
    class Tagged(msgspec.Struct):
        tags: dict[str, int]

    one, two = (msgspec.json.decode(text, type=Tagged) for text in ('{"tags":{"a":1,"b":2}}', '{"tags":{"b":2,"a":1}}'))
    assert split_key(None, one) == split_key(None, two)
    assert split_key(None, one) != split_key(None, Tagged({"a": 1, "b": 3}))


def test_two_groups_are_too_few():
    with pytest.raises(ValueError, match="10 rows are too few to train on: at least 3 different"):
        split(10, 1, [b"1", b"2"] * 5)


def test_rows_of_no_group_are_split_as_if_there_were_no_groups():
    assert split(50, 1) == split(50, 1, [b"%d" % row for row in range(50)])


def test_few_rows_are_validated_on_several_foldings():
    assert len(cross_validation(range(100), 1)) == 20
    assert len(cross_validation(range(FEW_ROWS), 1)) == 5


def test_fewer_groups_than_folds_are_an_error():
    with pytest.raises(ValueError, match="4 different rows are too few for 5 folds"):
        folds([1, 2, 3, 4], 5, 1)

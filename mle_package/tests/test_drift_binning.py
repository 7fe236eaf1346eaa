"""Reference profiles: counts that add up, the same for Structs and JSON objects, small and fast."""

from typing import Annotated, Literal

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from machine_learning_engineering.drift.binning import count_into, merge, reference_profile
from machine_learning_engineering.drift.profile import (
    HELD_OUT_BYTES,
    CategoryCounts,
    NumericHistogram,
    Profile,
    TextCounts,
)
from machine_learning_engineering.drift.report import drift


class Row(msgspec.Struct, frozen=True, rename="camel"):
    how_much: Annotated[float, msgspec.Meta(ge=-100)]
    kind: Literal["a", "b", "c"] = "a"
    count: int | None = None
    is_new: bool = False
    words: str | None = None


class Inner(msgspec.Struct, frozen=True):
    yes: float
    no: float


class Answer(msgspec.Struct, frozen=True):
    label: str
    probabilities: Inner
    parts: list[float] = []


class Model:
    Features = Row


def rows(count, seed=1):
    random = np.random.default_rng(seed)
    return [
        Row(
            how_much=float(random.normal()),
            kind=str(random.choice(["a", "b", "c"], p=[0.7, 0.25, 0.05])),
            count=None if random.random() < 0.1 else int(random.poisson(1)),
            is_new=bool(random.random() < 0.3),
            words=None if random.random() < 0.2 else " ".join(f"w{n}" for n in random.geometric(0.05, 6)),
        )
        for _ in range(count)
    ]


def answers(count, seed=1):
    random = np.random.default_rng(seed)
    return [Answer("yes" if p > 0.5 else "no", Inner(p, 1 - p), [p]) for p in random.random(count).tolist()]


@pytest.fixture(scope="module")
def reference():
    return reference_profile(Model, rows(1_000), answers(300), [True, False, True] * 100)


def test_each_field_is_profiled_by_its_kind_under_its_name_in_json(reference):
    kinds = {name: type(field) for name, field in reference.features.items()}
    assert kinds == {
        "howMuch": NumericHistogram,
        "kind": CategoryCounts,
        "count": NumericHistogram,
        "isNew": CategoryCounts,
        "words": TextCounts,
    }
    kinds = {name: type(field) for name, field in reference.predictions.items()}
    assert kinds == {
        "label": CategoryCounts,
        "probabilities.yes": NumericHistogram,
        "probabilities.no": NumericHistogram,
    }


def test_counts_add_up_to_the_rows(reference):
    number, kind, text = (reference.features[name] for name in ("count", "kind", "words"))
    assert number.rows == number.missing + number.zeros + sum(number.counts) == 1_000
    assert 60 < number.missing < 140
    assert 300 < number.zeros < 400
    assert kind.rows == kind.missing + kind.unseen + sum(kind.counts.values()) == 1_000
    assert text.rows == 500  # the other half chose the words
    assert text.length.missing == text.missing == text.length.rows - sum(text.length.counts)


def test_the_bins_of_a_number_hold_about_equal_counts(reference):
    number = reference.features["howMuch"]
    assert number.edges == sorted(set(number.edges))
    below, *within, above = number.counts
    assert (below, above, len(within)) == (0, 0, 10)
    assert min(within) > 90
    assert max(within) < 110
    assert number.edges[0] == number.minimum < number.maximum < number.edges[-1]


def test_a_number_of_few_values_has_a_bin_for_each():
    profile = reference_profile(Model, [Row(how_much=float(1 + row % 3)) for row in range(300)], [])
    assert profile.features["howMuch"].counts == [0, 100, 100, 100, 0]
    window = count_into(profile, [{"howMuch": value} for value in (0.5, 1.0, 1.5, 2.0, 3.0, 3.1, 0.0, None)])
    assert window.features["howMuch"].counts == [1, 2, 1, 1, 1]


def test_structs_and_the_json_objects_of_their_requests_give_the_same_counts(reference):
    structs, predictions = rows(200, seed=2), answers(200, seed=2)
    # As a producer may write them: without what has a default.
    objects = [msgspec.to_builtins(row) for row in structs]
    for one in objects:
        for name, default in {"kind": "a", "isNew": False, "count": None}.items():
            if one[name] == default:
                del one[name]
    told = [msgspec.to_builtins(one) for one in predictions]
    assert count_into(reference, structs, predictions) == count_into(reference, objects, told)


def test_the_reference_rows_themselves_are_counted_as_in_the_reference(reference):
    again = count_into(reference, rows(1_000), answers(300))
    for name in ("howMuch", "kind", "count", "isNew"):
        assert again.features[name] == reference.features[name]
    assert again.predictions == reference.predictions


def test_two_windows_merged_are_the_one_of_both(reference):
    one, other = rows(80, seed=2), rows(50, seed=3)
    merged = merge(count_into(reference, one, answers(10, 2)), count_into(reference, other, answers(20, 3)))
    assert merged == count_into(reference, one + other, answers(10, 2) + answers(20, 3))


def test_a_window_of_nothing_counts_nothing(reference):
    empty = count_into(reference, [])
    assert {field.rows for field in empty.features.values()} == {0}
    assert merge(empty, count_into(reference, rows(5))) == count_into(reference, rows(5))


def test_values_that_the_reference_does_not_know(reference):
    window = count_into(
        reference, [{"howMuch": "many", "kind": "z", "count": 10**400, "isNew": 7, "words": "quite new"}]
    )
    assert (window.features["howMuch"].missing, window.features["howMuch"].minimum) == (1, None)
    assert (window.features["count"].counts[-1], window.features["count"].maximum) == (1, None)
    assert (window.features["kind"].unseen, window.features["isNew"].unseen) == (1, 1)
    assert window.features["words"].known.zeros == 1
    assert set(window.features["words"].words.values()) == {0}


def test_a_profile_is_the_same_after_json(reference):
    assert msgspec.json.decode(msgspec.json.encode(reference), type=Profile) == reference


def test_held_out_answers_are_kept_with_their_labels(reference):
    assert len(reference.held_out) == 300
    prediction, label = reference.held_out[1]
    assert label is False
    assert msgspec.convert(prediction, Answer) == answers(300)[1]
    assert reference_profile(Model, rows(10), answers(10)).held_out == []
    with pytest.raises(ValueError, match="3 labels do not match 2 predictions"):
        reference_profile(Model, rows(10), answers(2), [1, 2, 3])


def test_a_profile_of_many_long_rows_is_small():
    many = [
        {"howMuch": float(n), "kind": f"{n % 60}", "count": n, "isNew": True, "words": f"{n} " * 50}
        for n in range(20_000)
    ]
    long = [Answer("x" * 2_000, Inner(0.5, 0.5))] * 20_000
    profile = reference_profile(Model, many, long, [0] * 20_000)
    assert len(msgspec.json.encode(profile)) < 200_000
    assert 0 < len(msgspec.json.encode(profile.held_out)) <= HELD_OUT_BYTES * 1.1


def test_no_rows_at_all_make_an_empty_profile():
    profile = reference_profile(Model, [], [])
    assert (profile.features, profile.predictions, profile.held_out) == ({}, {}, [])


@pytest.mark.parametrize("value", [None, True, 0, 0.0, "", "a b", [1], {"a": 1}, float("nan"), -1e308, 2**70])
def test_a_column_of_any_one_value_is_profiled(value):
    profile = reference_profile(Model, [{"howMuch": value}] * 10, [])
    window = count_into(profile, [{"howMuch": value}] * 4)
    again = msgspec.json.decode(msgspec.json.encode(profile), type=Profile)
    assert again == profile
    assert all(field.rows == 4 for field in window.features.values())


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
some_rows = st.lists(
    st.fixed_dictionaries({}, optional={"howMuch": scalars, "kind": scalars, "words": st.text()}), max_size=30
)


@settings(max_examples=150, deadline=None)
@given(reference=some_rows, one=some_rows, other=some_rows)
def test_whatever_the_rows_counts_add_up_and_merge(reference, one, other):
    profile = reference_profile(Model, reference, [])
    window = count_into(profile, one)
    assert merge(window, count_into(profile, other)) == count_into(profile, one + other)
    for field in window.features.values():
        assert field.rows == len(one)
        if isinstance(field, NumericHistogram):
            assert field.missing + field.zeros + sum(field.counts) == len(one)
        elif isinstance(field, CategoryCounts):
            assert field.missing + field.unseen + sum(field.counts.values()) == len(one)
        else:
            assert max([0, *field.words.values()]) <= len(one) - field.missing
    for kept in (profile, window):
        assert msgspec.json.decode(msgspec.json.encode(kept), type=Profile) == kept
    assert all(0 <= test.p_value <= test.p_adjusted <= 1 for test in drift(profile, window).tests)

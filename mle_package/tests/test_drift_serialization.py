"""Counts without their bins: put back with the reference they are the same window."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.drift.binning import count_into, merge, reference_profile
from machine_learning_engineering.drift.serialization import deserialize, serialize


class Row(msgspec.Struct, frozen=True):
    number: float
    kind: str = "a"
    maybe: int | None = None
    words: str | None = None


class Model:
    Features = Row


def rows(count, random):
    return [
        {
            "number": float(random.normal()),
            "kind": str(random.choice(["a", "b"])),
            "maybe": None if random.random() < 0.5 else int(random.poisson(1)),
            "words": " ".join(f"w{n}" for n in random.geometric(0.1, 5)),
        }
        for _ in range(count)
    ]


REFERENCE = reference_profile(Model, rows(500, np.random.default_rng(1)), [{"answer": n / 7} for n in range(300)])
any_rows = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "number": st.floats(allow_nan=False, allow_infinity=False) | st.none() | st.booleans(),
            "kind": st.sampled_from(["a", "b", "new", "", None]),
            "maybe": st.integers() | st.none(),
            "words": st.text(max_size=30) | st.none(),
        },
    ),
    max_size=20,
)


@given(any_rows)
def test_what_was_packed_and_sent_as_json_comes_back_the_same(found):
    window = count_into(REFERENCE, found, [{"answer": 1.5}] * len(found))
    packed = msgspec.json.decode(msgspec.json.encode(serialize(window)))
    assert deserialize(REFERENCE, packed) == window


@given(any_rows, st.integers(0, 20))
def test_counts_that_were_packed_in_between_add_up_to_all_at_once(found, cut):
    one, other = count_into(REFERENCE, found[:cut]), count_into(REFERENCE, found[cut:])
    assert merge(deserialize(REFERENCE, serialize(one)), other) == count_into(REFERENCE, found)


def test_they_are_small():
    window = count_into(REFERENCE, rows(1_000, np.random.default_rng(2)), [{"answer": 1.0}] * 1_000)
    assert len(msgspec.json.encode(serialize(window))) < 1_500 < len(msgspec.json.encode(window))


@pytest.mark.parametrize("packed", [[], [[], []], [[[1]], []], 5, [[1, 2, 3, 4], [1]]])
def test_counts_in_other_bins_are_refused(packed):
    with pytest.raises(ValueError, match=r".*"):
        deserialize(REFERENCE, packed)


def test_a_number_with_other_bins_is_refused():
    other = reference_profile(Model, [{"number": 1.0}] * 50, [{"answer": 1.0}] * 50)
    same_fields = msgspec.structs.replace(other, predictions={})
    with pytest.raises(ValueError, match="counts"):
        deserialize(same_fields, serialize(count_into(REFERENCE, [{"number": 1.0}])))

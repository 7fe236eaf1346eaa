"""The point-in-time join against an oracle that looks at every row: never a value from the future."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from msgspec import Struct

from machine_learning_engineering.feature_store.point_in_time import as_of
from machine_learning_engineering.feature_store.store import FeatureRow, FeatureStore, FeatureView

hypothesis = pytest.importorskip("hypothesis", reason="a development tool")
st = hypothesis.strategies

KEYS = st.sampled_from(["a", "b", "c", "d"])
# Few moments, so that many are equal; and far ones, beyond what a product of key and time would hold.
TIMES = st.one_of(st.integers(-3, 6), st.sampled_from([-(2**62), 2**62, 1_767_225_600_000_000]))


def oracle(rows, key, time, ttl):
    """The last of the latest rows of the key that are not of the future."""
    known = [(at, index) for index, (of, at) in enumerate(rows) if of == key and at <= time]
    if not known or (ttl is not None and time - max(known)[0] > ttl):
        return -1
    return max(known)[1]


@hypothesis.settings(max_examples=400, deadline=None)
@hypothesis.given(
    rows=st.lists(st.tuples(KEYS, TIMES), max_size=12),
    wanted=st.lists(st.tuples(st.one_of(KEYS, st.just("stranger")), TIMES), max_size=8),
    ttl=st.none() | st.integers(0, 5),
)
def test_as_of_is_what_an_oracle_finds(rows, wanted, ttl):
    if ttl is not None:  # A difference of the far ones would leave 64 bits, and no real time does.
        hypothesis.assume(all(abs(time) < 2**61 for _, time in rows + wanted))
    found = as_of(
        [key for key, _ in rows],
        np.array([time for _, time in rows], dtype=np.int64),
        [key for key, _ in wanted],
        np.array([time for _, time in wanted], dtype=np.int64),
        ttl,
    )
    assert found.tolist() == [oracle(rows, key, time, ttl) for key, time in wanted]
    for index, (key, time) in zip(found.tolist(), wanted, strict=True):
        assert index < 0 or (rows[index][0] == key and rows[index][1] <= time)


class Value(Struct, frozen=True):
    number: int


START = datetime(2026, 1, 1, 23, 59, tzinfo=UTC)
MINUTES = st.integers(-3, 4)


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(
    writes=st.lists(st.lists(st.tuples(KEYS, MINUTES, st.integers(0, 3)), max_size=6), max_size=4),
    wanted=st.lists(st.tuples(KEYS, MINUTES), max_size=6),
)
def test_a_store_on_disk_never_tells_of_the_future(tmp_path_factory, writes, wanted):
    """In any number of writes, over midnight, with corrections; and online is the same as now."""
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    view = FeatureView("numbers", Value)
    everything = [one for written in writes for one in written]
    with FeatureStore(tmp_path_factory.mktemp("store")) as store:
        for written in writes:
            store.write(
                view,
                [FeatureRow(key, START + timedelta(minutes=minute), Value(number)) for key, minute, number in written],
            )
        found = store.join(view, [(key, START + timedelta(minutes=minute)) for key, minute in wanted])
        for known, (key, minute) in zip(found, wanted, strict=True):
            index = oracle([(of, at) for of, at, _ in everything], key, minute, None)
            assert known == (None if index < 0 else Value(everything[index][2]))
        for key in "abcd":
            latest = store.online(view, key)
            index = oracle([(of, at) for of, at, _ in everything], key, 99, None)
            assert (None if latest is None else latest.features) == (None if index < 0 else Value(everything[index][2]))


def test_the_join_alone_needs_neither_sqlite_nor_pyarrow():
    code = (
        "import sys, machine_learning_engineering.feature_store.point_in_time;"
        "sys.exit(bool({'sqlite3', 'pyarrow'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

"""The feature store: what was known at a moment, and never more; the latest at once."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import UNSET, Meta, Struct, UnsetType

from machine_learning_engineering.feature_store import offline as feature_store_parquet
from machine_learning_engineering.feature_store.offline import FeatureStoreError
from machine_learning_engineering.feature_store.store import FeatureRow, FeatureStore, FeatureView

pytest.importorskip("pyarrow", reason="needs the extra parquet")

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Customer(Struct, frozen=True, forbid_unknown_fields=True):
    spent: float
    visits: int = 0
    segment: Literal["new", "loyal"] | None = None


class Everything(Struct, frozen=True):
    """Every way in which a value can be there or not."""

    text: str
    flag: bool
    number: Annotated[float, Meta(ge=0, description="Described.")]
    whole_or_null: int | None
    choice: Literal["a", None] = None
    unset: str | UnsetType = UNSET
    null_or_unset: int | UnsetType | None = UNSET
    null_or_seven: int | None = 7
    mixed: int | str = "x"
    several: list[float] = []
    nested: dict[str, Any] = {}
    anything: Any = None


CUSTOMERS = FeatureView("customers", Customer)


def row(key: str, minute: float, spent: float, **changes: Any) -> FeatureRow[Customer]:
    return FeatureRow(key, START + timedelta(minutes=minute), Customer(spent, **changes))


def at(minute: float) -> datetime:
    return START + timedelta(minutes=minute)


@pytest.fixture
def store(tmp_path):
    with FeatureStore(tmp_path / "new" / "features") as opened:
        yield opened


def spent(found):
    return [None if one is None else one.spent for one in found]


def test_a_join_gives_what_was_known_at_each_moment(store):
    assert store.write(CUSTOMERS, [row("a", 0, 1.0), row("a", 10, 2.0), row("b", 5, 9.0)]) == 3
    moments = [("a", at(-1)), ("a", at(0)), ("a", at(9.99)), ("a", at(10)), ("a", at(99)), ("b", at(4)), ("c", at(9))]
    assert spent(store.join(CUSTOMERS, moments)) == [None, 1.0, 1.0, 2.0, 2.0, None, None]
    assert store.join(CUSTOMERS, []) == []


def test_a_value_of_the_same_day_but_later_is_not_known_yet(store):
    store.write(CUSTOMERS, [row("a", 1, 1.0)])
    assert spent(store.join(CUSTOMERS, [("a", at(0)), ("a", at(1))])) == [None, 1.0]


def test_moments_in_any_offset_are_the_same_moments(store):
    elsewhere = timezone(timedelta(hours=5))
    store.write(CUSTOMERS, [FeatureRow("a", START.astimezone(elsewhere), Customer(1.0))])
    assert spent(store.join(CUSTOMERS, [("a", START), ("a", START.astimezone(elsewhere))])) == [1.0, 1.0]
    assert [found.at for found in store.history(CUSTOMERS)] == [START]


def test_values_older_than_the_ttl_are_not_known_any_more(store):
    view = FeatureView("customers", Customer, ttl=timedelta(minutes=10))
    store.write(view, [row("a", 0, 1.0)])
    assert spent(store.join(view, [("a", at(10)), ("a", at(10.01))])) == [1.0, None]
    assert store.online(view, "a", now=at(10)).features.spent == 1.0
    assert store.online(view, "a", now=at(10.01)) is None
    assert store.online(view, "a") is None


def test_of_two_at_one_moment_the_one_written_later_counts(store):
    store.write(CUSTOMERS, [row("a", 0, 1.0), row("a", 0, 2.0)])
    assert spent(store.join(CUSTOMERS, [("a", at(0))])) == [2.0]
    for corrected in (3.0, 2.0):
        assert store.write(CUSTOMERS, [row("a", 0, corrected)]) == 1
        assert spent(store.join(CUSTOMERS, [("a", at(0))])) == [corrected]
        assert store.online(CUSTOMERS, "a").features.spent == corrected


def test_writing_again_changes_nothing(store):
    rows = [row("a", 0, 1.0), row("b", 60 * 24, 2.0)]
    assert [store.write(CUSTOMERS, rows), store.write(CUSTOMERS, rows), store.write(CUSTOMERS, [])] == [2, 0, 0]
    assert len(list(store.history(CUSTOMERS))) == 2


def test_the_latest_is_found_online_also_when_older_rows_come_late(store):
    assert store.online(CUSTOMERS, "a") is None
    store.write(CUSTOMERS, [row("a", 10, 2.0, visits=3, segment="loyal")])
    store.write(CUSTOMERS, [row("a", 0, 1.0)])
    found = store.online(CUSTOMERS, "a")
    assert found == FeatureRow("a", at(10), Customer(2.0, 3, "loyal"))
    assert [one.features.spent for one in store.history(CUSTOMERS)] == [1.0, 2.0]


def test_online_values_are_made_anew_from_the_files(tmp_path):
    with FeatureStore(tmp_path) as store:
        store.write(CUSTOMERS, [row("a", 0, 1.0), row("a", 5, 2.0), row("b", 0, 3.0)])
    for file in tmp_path.glob("online.sqlite*"):
        file.unlink()
    with FeatureStore(tmp_path) as store:
        assert store.online(CUSTOMERS, "a") is None
        assert store.rebuild_online(CUSTOMERS) == 2
        assert store.online(CUSTOMERS, "a").features.spent == 2.0


VALUES = [
    Everything("é\0", True, 0.1, 2**62),
    Everything("", False, 1e300, None, choice="a", unset="", null_or_unset=None, null_or_seven=None, mixed=3),
    Everything("x", True, 0.0, -1, null_or_unset=0, several=[1.5], nested={"a": {"b": [None]}}, anything=[{"c": 1}]),
]


@pytest.mark.parametrize("values", VALUES)
def test_values_come_back_as_they_were(store, values):
    """Also null, and what is left out, where a field may have both."""
    view = FeatureView("everything", Everything)
    store.write(view, [FeatureRow("k", START, values)])
    assert store.join(view, [("k", START)]) == [values]
    assert store.online(view, "k").features == values


def test_columns_are_typed_for_others_to_read(store, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    store.write(FeatureView("everything", Everything), [FeatureRow("k", START, VALUES[0])])
    [file] = (store.path / "offline" / "everything").glob("2026-01-01/*.parquet")
    found = {field.name: str(field.type) for field in parquet.read_schema(file)}
    assert found["_at"] == "timestamp[us, tz=UTC]"
    assert (found["text"], found["flag"], found["number"], found["whole_or_null"]) == (
        "string",
        "bool",
        "double",
        "int64",
    )
    assert (found["choice"], found["several"]) == ("string", "string")


def test_a_view_may_gain_a_field_with_a_default(store):
    class More(Struct, frozen=True):
        spent: float
        visits: int = 0
        segment: Literal["new", "loyal"] | None = None
        country: str = "it"
        age: int | None = 40

    store.write(CUSTOMERS, [row("a", 0, 1.0, segment="new")])
    more = FeatureView("customers", More)
    store.write(more, [FeatureRow("a", at(1), More(2.0, country="fr", age=None))])
    assert store.join(more, [("a", at(0)), ("a", at(1))]) == [More(1.0, 0, "new"), More(2.0, country="fr", age=None)]


def test_a_view_whose_features_changed_says_so(store):
    class Other(Struct, frozen=True):
        spent: Literal["much", "little"]

    store.write(CUSTOMERS, [row("a", 0, 1.0)])
    with pytest.raises(FeatureStoreError, match="do not fit Other"):
        store.join(FeatureView("customers", Other), [("a", at(0))])
    with pytest.raises(FeatureStoreError, match="do not fit Other"):
        store.online(FeatureView("customers", Other), "a")


def test_a_whole_number_beyond_64_bits_is_refused_by_name(store):
    with pytest.raises(FeatureStoreError, match="values of `visits` can't be stored"):
        store.write(CUSTOMERS, [row("a", 0, 1.0, visits=2**70)])


@pytest.mark.parametrize("name", ["", "../x", "A", ".hidden", "a" * 129])
def test_a_view_needs_a_name_that_can_be_a_folder(name):
    with pytest.raises(ValueError, match="is not the name of a view"):
        FeatureView(name, Customer)


def test_a_row_needs_a_key_and_a_moment(store):
    with pytest.raises(ValueError, match="an empty key"):
        store.write(CUSTOMERS, [row("", 0, 1.0)])
    with pytest.raises(ValueError, match="has no offset"):
        store.write(CUSTOMERS, [FeatureRow("a", datetime(2026, 1, 1), Customer(1.0))])
    with pytest.raises(ValueError, match="has no offset"):
        store.join(CUSTOMERS, [("a", datetime(2026, 1, 1))])


def test_what_there_is_is_told_by_view(store):
    assert store.summaries() == []
    store.write(CUSTOMERS, [row("a", 0, 1.0), row("a", 60 * 24, 2.0), row("b", 1, 3.0)])
    [found] = store.summaries()
    assert (found.view, found.rows, found.files, found.online_keys) == ("customers", 3, 2, 2)
    assert (found.first, found.last) == (START, START + timedelta(days=1))
    assert found.bytes > 0


def test_a_damaged_file_is_named(store):
    store.write(CUSTOMERS, [row("a", 0, 1.0)])
    [file] = (store.path / "offline").glob("*/*/*.parquet")
    file.write_bytes(b"PAR1 and then nothing")
    for broken in (
        lambda: store.join(CUSTOMERS, [("a", at(0))]),
        store.summaries,
        lambda: store.write(CUSTOMERS, [row("b", 0, 1.0)]),
    ):
        with pytest.raises(FeatureStoreError, match=rf"{file.name} can't be read"):
            broken()


def test_a_damaged_online_file_is_named(tmp_path):
    (tmp_path / "online.sqlite").write_text("no database, but long enough to be looked at " * 50)
    with pytest.raises(FeatureStoreError, match=r"online\.sqlite can't be opened"):
        FeatureStore(tmp_path)


def test_nothing_half_written_is_read(store, monkeypatch):
    def full(path, content):
        path.with_name(".partial-x").write_bytes(content[:100])
        raise OSError("no space left on device")

    monkeypatch.setattr(feature_store_parquet.durable, "replace", full)
    with pytest.raises(FeatureStoreError, match="can't be written: no space left"):
        store.write(CUSTOMERS, [row("a", 0, 1.0)])
    monkeypatch.undo()
    assert list(store.history(CUSTOMERS)) == []
    assert store.online(CUSTOMERS, "a") is None
    assert store.write(CUSTOMERS, [row("a", 0, 1.0)]) == 1


def test_threads_write_and_read_one_store(store):
    def write(n: int) -> int:
        return store.write(CUSTOMERS, [row(f"k{n % 5}", n % 5, float(n % 5))])

    with ThreadPoolExecutor(4) as executor:
        assert sum(executor.map(write, range(20))) == 5
    assert len(list(store.history(CUSTOMERS))) == 5


def test_without_pyarrow_the_extra_is_named(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"\[parquet\]"):
        store.write(CUSTOMERS, [row("a", 0, 1.0)])


def test_importing_the_store_loads_no_pyarrow():
    code = "import sys, machine_learning_engineering.feature_store.examples; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_days_are_folders_of_utc(store):
    late = FeatureRow("a", datetime(2026, 1, 1, 23, tzinfo=timezone(timedelta(hours=-5))), Customer(1.0))
    store.write(CUSTOMERS, [late])
    assert [folder.name for folder in (store.path / "offline" / "customers").glob("*/")] == [str(date(2026, 1, 2))]


def test_a_struct_that_is_no_valid_value_is_refused(store):
    class Positive(Struct, frozen=True):
        spent: Annotated[float, Meta(gt=0)]

    with pytest.raises(FeatureStoreError, match="do not fit Positive"):
        store.write(FeatureView("positive", Positive), [FeatureRow("a", START, Positive(-1.0))])
    assert msgspec.structs.asdict(Positive(-1.0)) == {"spent": -1.0}


# --- after a month of writes each minute ------------------------------------------------------------------------------


def files_of(store, day="2026-01-01"):
    return sorted((store.path / "offline" / "customers" / day).glob("*.parquet"))


def test_the_files_of_a_day_are_merged_and_all_rows_stay(store):
    for minute in range(100):
        assert store.write(CUSTOMERS, [row(f"k{minute % 7}", minute, float(minute))]) == 1
        assert len(files_of(store)) < feature_store_parquet.MAX_FILES
    assert [found.features.spent for found in store.history(CUSTOMERS)] == [float(minute) for minute in range(100)]
    assert store.write(CUSTOMERS, [row("k0", 0, 0.0)]) == 0
    assert spent(store.join(CUSTOMERS, [("k3", at(50)), ("k3", at(99))])) == [45.0, 94.0]
    assert store.summaries()[0].rows == 100


def test_a_day_that_is_past_is_merged_by_the_first_write_of_the_next(store):
    for minute in range(5):
        store.write(CUSTOMERS, [row("a", minute, float(minute))])
    store.write(CUSTOMERS, [row("a", 60 * 24, 9.0)])
    assert (len(files_of(store)), len(files_of(store, "2026-01-02"))) == (1, 1)
    assert len(list(store.history(CUSTOMERS))) == 6


def test_a_crash_between_the_merge_and_the_removal_doubles_no_row(store, monkeypatch):
    """And the next merge removes what was left."""
    removed = []
    monkeypatch.setattr(feature_store_parquet.Path, "unlink", lambda file, missing_ok=False: removed.append(file))
    for minute in range(40):
        store.write(CUSTOMERS, [row("a", minute, float(minute))])
    assert removed
    monkeypatch.undo()
    assert len(list(store.history(CUSTOMERS))) == store.summaries()[0].rows == 40
    store.write(CUSTOMERS, [row("a", 60 * 24, 9.0)])
    assert len(files_of(store)) == 1
    assert len(list(store.history(CUSTOMERS))) == 41


def test_files_of_a_view_that_gained_a_field_are_merged(store):
    class More(Struct, frozen=True):
        spent: float
        visits: int = 0
        segment: Literal["new", "loyal"] | None = None
        country: str = "it"

    store.write(CUSTOMERS, [row("a", 0, 1.0)])
    more = FeatureView("customers", More)
    store.write(more, [FeatureRow("a", at(1), More(2.0, country="fr"))])
    store.write(more, [FeatureRow("a", at(60 * 24), More(3.0))])
    assert len(files_of(store)) == 1
    assert [found.features for found in store.history(more)] == [More(1.0), More(2.0, country="fr"), More(3.0)]


def test_readers_and_a_merge_do_not_disturb_each_other(store):
    """The files that were listed may be gone when they are read."""
    store.write(CUSTOMERS, [row("a", 0, 0.0)])
    with ThreadPoolExecutor(1) as executor:
        writing = executor.submit(lambda: [store.write(CUSTOMERS, [row("a", m, float(m))]) for m in range(1, 150)])
        seen = 0
        while not writing.done():
            count = len(list(store.history(CUSTOMERS)))
            assert count >= seen
            seen = count
        writing.result()
    assert len(list(store.history(CUSTOMERS))) == 150


def test_a_clock_that_is_set_back_makes_no_older_value_win(store, monkeypatch):
    store.write(CUSTOMERS, [row("a", 0, 1.0)])
    now = feature_store_parquet.time.time_ns()
    monkeypatch.setattr(feature_store_parquet.time, "time_ns", lambda: now - 10**15)
    for corrected in (2.0, 3.0):
        assert store.write(CUSTOMERS, [row("a", 0, corrected)]) == 1
        assert spent(store.join(CUSTOMERS, [("a", at(0))])) == [corrected]
    assert store.rebuild_online(CUSTOMERS) == 1
    assert store.online(CUSTOMERS, "a").features.spent == 3.0


def test_online_values_are_never_missing_while_they_are_made_anew(store):
    store.write(CUSTOMERS, [row(f"k{n}", 0, 1.0) for n in range(300)])
    with FeatureStore(store.path) as reader, ThreadPoolExecutor(1) as executor:
        rebuilding = executor.submit(lambda: [store.rebuild_online(CUSTOMERS) for _ in range(20)])
        while not rebuilding.done():
            assert reader.online(CUSTOMERS, "k0") is not None
        rebuilding.result()

"""Data frames at every door: what is missing, which types are what, which columns are refused, and the index."""

import datetime
import json
import subprocess
import sys
from decimal import Decimal
from types import MappingProxyType

import msgspec
import numpy as np
import pytest

from machine_learning_engineering.core.column_map import InvalidTable
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.frames import examples_of, is_frame, labels_of, make_frame, requests_of_frame
from machine_learning_engineering.prediction_log.frames import records_frame
from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
from machine_learning_engineering.prediction_log.store import PredictionLogError
from machine_learning_engineering.retraining.trigger import trigger_retraining
from machine_learning_engineering.testing.check_model import CheckFailed, check_model
from machine_learning_engineering.training.pipeline import run_training
from machine_learning_engineering.training.quick import train

pd = pytest.importorskip("pandas")


@pytest.fixture
def log(tmp_path):
    with SqlitePredictionLog(tmp_path / "log.sqlite") as found:
        yield found


def numbers(*values, **more):
    return pd.DataFrame({"number": values, **more})


def sent(model, frame):
    return [json.loads(one) if isinstance(one, bytes) else one for one in requests_of_frame(type(model), frame)]


# --- values ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1.0, np.nan, 3.0]),
        pd.Series([1, None, 3], dtype="Int64"),
        pd.Series([1, pd.NA, 3], dtype="object"),
        pd.Series([1.0, None, 3.0], dtype="object"),
        pd.Series([np.int8(1), float("nan"), np.float32(3)], dtype="object"),
        pd.Series(pd.Categorical([1, None, 3])),
        pd.Series([Decimal("1.0"), Decimal("NaN"), Decimal(3)], dtype="object"),
        pd.Series([1, None, 3], dtype="Float32"),
        pd.Series([1, pd.NaT, 3], dtype="object"),
    ],
    ids=lambda column: f"{column.dtype}-{type(column[1]).__name__}",
)
def test_whole_numbers_of_any_column_type_are_integers_and_gaps_are_gaps(doubler, log, column):
    frame = numbers(1.0, 2.0, 3.0).assign(count=column)
    assert sent(doubler, frame) == [{"number": 1.0, "count": 1}, {"number": 2.0}, {"number": 3.0, "count": 3}]
    assert doubler.predict_with_logging(frame, log)["error_type"].isna().all()


def test_values_have_the_json_that_a_producer_would_send(doubler):
    class Wide(type(doubler)):
        Features = msgspec.defstruct(
            "WideFeatures",
            [
                ("flag", bool),
                ("at", datetime.datetime | None),
                ("day", str),
                ("took", datetime.timedelta),
                ("sizes", list[float | None]),
                ("inner", dict[str, float | None]),
                ("name", str),
                ("price", float),
            ],
            frozen=True,
        )

    frame = pd.DataFrame(
        {
            "flag": np.array([True, False]),
            "at": pd.to_datetime(["2026-01-31T12:00:00.123456789Z", None]),
            "day": [datetime.date(2026, 1, 31)] * 2,
            "took": pd.to_timedelta([90, 1], unit="s"),
            "sizes": [np.array([1.5, np.nan]), [2]],
            "inner": [{"a": np.float32(0.5)}, {"a": None}],
            "name": pd.Series([b"caf\xc3\xa9", "x"], dtype="object"),
            "price": [Decimal("12.50"), Decimal(3)],
        }
    )
    first, second = sent(Wide(), frame)
    assert first == {
        "flag": True,
        "at": "2026-01-31T12:00:00.123456789+00:00",
        "day": "2026-01-31",
        "took": "PT90S",
        "sizes": [1.5, None],
        "inner": {"a": 0.5},
        "name": "café",
        "price": 12.5,
    }
    # A required field that may be null is null; whole decimals are whole.
    assert (second["at"], second["price"], second["sizes"]) == (None, 3, [2])
    for one in requests_of_frame(Wide, frame):
        Wide().decode(one)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (numbers(np.nan), "feature `number` is missing: it must be a number"),
        (numbers(np.inf), "feature `number` must be a finite number"),
        (numbers("1"), "feature `number` must be .*, not a string"),
        (numbers(True), "feature `number` must be .*, not true or false"),
        (numbers(1.0, count=[2.5]), "feature `count` must be .*, not a decimal number"),
        (numbers(1.0, count=[-0.0]), "feature `count` must be .*, not a decimal number"),
        (numbers(1.0, note=[pd.Interval(0, 1)]), "feature `note` can't be written as JSON: objects of type Interval"),
        (numbers(1.0, note=[b"\xff"]), "feature `note` can't be written as JSON: objects of type bytes"),
        (numbers(1.0, note=pd.Series(["\ud800"], dtype="object")), "feature `note` can't be written as JSON"),
        (numbers(1.0, note=["longer"]), "feature `note` must be a string of at most 5 characters"),
        (numbers(1.0, unit=pd.Categorical(["miles"])), "feature `unit` must be one of km, m"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_bad_row_fails_by_itself_and_names_its_column(doubler, log, frame, message):
    frame = pd.concat([frame.astype(object), numbers(2.0).astype(object)], ignore_index=True)
    frame.index = ["bad", "good"]
    found = doubler.predict_with_logging(frame, log)
    assert found.index.tolist() == ["bad", "good"]
    assert found["prediction.double"].isna().tolist() == [True, False]
    assert found.loc["bad", "error_type"] == "invalid_features"
    assert pd.Series([found.loc["bad", "error_message"]]).str.contains(message, regex=True).all()
    assert sorted(log.to_pandas("doubler")["outcome"]) == ["completed", "failed"]


# --- columns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"nummer": [1.0]}), "no column `number`.*: rename `nummer`, if it is that"),
        (numbers(1.0, counts=[1]), "column `counts` is no feature of the model `doubler`, which takes number, unit"),
        (pd.DataFrame([[1.0, 2.0]], columns=["number", "number"]), "two columns named `number`"),
        (pd.DataFrame([[1.0]], columns=pd.MultiIndex.from_tuples([("a", "number")])), "several levels"),
    ],
)
def test_a_frame_that_is_no_table_of_requests_is_refused_as_a_whole(doubler, log, frame, message):
    with pytest.raises(InvalidTable, match=message):
        doubler.predict_with_logging(frame, log)
    assert list(log.read("doubler")) == []


def test_order_label_and_id_columns_are_no_features(doubler, log):
    frame = pd.DataFrame({"label": [3.0], "order": ["o-1"], "unit": ["km"], "number": [1]})
    found = doubler.predict_with_logging(frame, log, request_ids="order")
    assert (found["request_id"].tolist(), found["prediction.double"].tolist()) == (["o-1"], [pytest.approx(2.0)])
    with pytest.raises(InvalidTable, match="no column `nothing`"):
        doubler.predict_with_logging(frame.drop(columns="order"), log, request_ids="nothing")
    with pytest.raises(InvalidTable, match=r"row 0 \(index 0\): column `order` holds no text, but int"):
        doubler.predict_with_logging(frame.assign(order=[7]), log, request_ids="order")
    with pytest.raises(ValueError, match="only a data frame has a column"):
        doubler.predict_with_logging([{"number": 1}], log, request_ids="o")


def test_a_model_that_ignores_unknown_fields_ignores_unknown_columns(doubler, log):
    class Lenient(type(doubler)):
        Features = msgspec.defstruct("LenientFeatures", [("number", float)], frozen=True)

    model = Lenient()
    model.estimator = doubler.estimator
    assert len(model.predict_with_logging(numbers(1.0, whatever=["x"]), log)) == 1


def test_members_of_an_object_may_be_columns_and_declared_paths_are_names(doubler):
    inner = msgspec.defstruct("Order", [("amount", float), ("items", int | None, None)], frozen=True)

    class Nested(type(doubler)):
        Features = msgspec.defstruct("NestedFeatures", [("order", inner), ("number", float)], frozen=True)

    class Declared(type(doubler)):
        feature_paths = MappingProxyType({"number": "order.amount"})

    flat = pd.DataFrame({"order.amount": [1.5], "order.items": [2.0], "number": [1]})
    # The type of a member is its own: 2.0 is decoded as 2.
    assert Nested().decode(requests_of_frame(Nested, flat)[0]).order == inner(1.5, 2)
    whole = pd.DataFrame({"order": [{"amount": 1.5}], "number": [1]})
    assert Nested().decode(requests_of_frame(Nested, whole)[0]).order == inner(1.5)
    assert sent(Declared(), pd.DataFrame({"order": [{"amount": 1.5}]})) == [{"number": 1.5}]
    assert sent(Declared(), pd.DataFrame({"order.amount": [1.5]})) == [{"number": 1.5}]
    assert sent(Declared(), pd.DataFrame({"number": [2.5]})) == [{"number": 2.5}]


# --- the index and the answer ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "index",
    [
        pd.Index(["a", "a", None]),
        pd.MultiIndex.from_tuples([("x", 1), ("x", 1), ("y", 2)], names=["shop", "day"]),
        pd.date_range("2026-01-01", periods=3, tz="UTC"),
        pd.RangeIndex(5, 2, -1),
    ],
    ids=["repeated", "levels", "times", "range"],
)
def test_the_answer_has_the_index_of_the_frame(doubler, log, index):
    found = doubler.predict_with_logging(numbers(1.0, 2.0, 3.0).set_axis(index), log)
    pd.testing.assert_index_equal(found.index, index)
    assert found["prediction.double"].tolist() == pytest.approx([2.0, 4.0, 6.0])


def test_types_of_the_answer_do_not_depend_on_its_rows(doubler, log):
    fields = [("double", float), ("count", int), ("yes", bool), ("name", str), ("shares", list[float])]

    class Many(type(doubler)):
        Prediction = msgspec.defstruct("ManyPrediction", fields, frozen=True)

        def predict(self, rows):
            return [self.Prediction(2 * row.number, 1, True, "x", [0.5, 0.5]) for row in rows]

    frames = [numbers(1.0), numbers(1.0, np.nan), numbers(np.nan), numbers(1.0).iloc[:0]]
    found = [Many().predict_with_logging(frame, log) for frame in frames]
    assert [one.dtypes.tolist() == found[0].dtypes.tolist() for one in found] == [True] * 4
    assert {name: str(dtype) for name, dtype in found[0].dtypes.items() if name.startswith("prediction")} == {
        "prediction.double": "float64",
        "prediction.count": "Int64",
        "prediction.yes": "boolean",
        "prediction.name": "string",
        "prediction.shares": "object",
    }
    assert found[0]["prediction.shares"].tolist() == [[0.5, 0.5]]
    assert [len(one) for one in found] == [1, 2, 1, 0]


def test_a_frame_whose_log_fails_says_where_its_rows_are(doubler, tmp_path):
    class Broken:
        def append(self, records):
            raise PredictionLogError("away")

    with pytest.warns(UserWarning, match="were not logged"):
        found = doubler.predict_with_logging(numbers(1.0), Broken(), spool_dir=tmp_path)
    assert (found.attrs["spool"], len(found)) == (str(tmp_path / "doubler.jsonl"), 1)
    assert "away" in found.attrs["log_error"]


# --- labels and examples ---------------------------------------------------------------------------------------------


def test_labels_are_a_series_a_frame_or_a_mapping(doubler_class):
    wanted = {"a": 2.0, "b": 4}
    index = pd.Index(["a", "b", "c", "a"], name="request_id")
    values = pd.Series([9.0, 4, np.nan, 2.0], dtype="object", index=index)
    assert labels_of(doubler_class, values) == wanted
    assert labels_of(doubler_class, values.rename("label").to_frame()) == wanted
    assert labels_of(doubler_class, values.rename("label").reset_index()) == wanted
    assert labels_of(doubler_class, wanted) is wanted
    assert labels_of(doubler_class, None) is None
    with pytest.raises(InvalidTable, match=r"row 0 \(index 0\): request ids are texts, not int: give labels.set_index"):
        labels_of(doubler_class, values.reset_index(drop=True))
    with pytest.raises(InvalidTable, match="request ids are texts, not tuple"):
        labels_of(doubler_class, values.set_axis(pd.MultiIndex.from_product([["a", "b"], [1, 2]])))
    with pytest.raises(InvalidTable, match="no column `label`"):
        labels_of(doubler_class, values.rename("price").reset_index())


def test_labels_have_the_type_that_the_model_declares(doubler_class):
    class Yes(doubler_class):
        Label = bool
        label_name = "survived"

    frame = pd.DataFrame({"request_id": ["a", "b"], "survived": [1.0, 0.0]})
    assert labels_of(Yes, frame) == {"a": True, "b": False}


def test_examples_are_rows_with_their_labels_and_groups(doubler_class):
    frame = pd.DataFrame({"label": [2, 4.5], "group": [7, None], "number": [1, 2], "note": ["a", None]})
    assert examples_of(doubler_class, frame) == [
        Example({"number": 1, "note": "a"}, 2.0, "7.0"),
        Example({"number": 2}, 4.5, None),
    ]
    given = [Example({"number": 1}, 2.0)]
    assert examples_of(doubler_class, given) is given
    with pytest.raises(InvalidTable, match="no column `label` with the labels"):
        examples_of(doubler_class, frame.drop(columns="label"))
    with pytest.raises(InvalidTable, match=r"row 1 \(index 'y'\): there is no label in column `label`"):
        examples_of(doubler_class, frame.assign(label=[1.0, np.nan]).set_axis(["x", "y"]))
    with pytest.raises(InvalidTable, match=r"row 0 \(index 0\): column `number` must be a finite number"):
        examples_of(doubler_class, frame.assign(number=[np.inf, 1.0]))


def test_a_frame_trains_checks_and_retrains_as_its_examples_do(doubler_class, settings, tmp_path):
    examples = list(doubler_class.examples())
    frame = pd.DataFrame([one.features | {"label": one.label} for one in examples])
    check_model(doubler_class, examples=frame)
    with pytest.raises(CheckFailed, match="there are no examples"):
        check_model(doubler_class, examples=frame.iloc[:0])
    from_frame = train(doubler_class, settings, examples=frame)
    from_rows = train(doubler_class, settings, examples=examples)
    assert from_frame.training_data_sha256 == from_rows.training_data_sha256
    assert from_frame.metrics == from_rows.metrics
    with SqlitePredictionLog(tmp_path / "log.sqlite") as log:
        decision = trigger_retraining(doubler_class, log, pd.Series({"r-1": 2.0}), settings=settings, examples=frame)
        with pytest.raises(InvalidTable, match="no column `number`"):
            trigger_retraining(doubler_class, log, settings=settings, examples=frame.drop(columns="number"))
    assert (decision.outcome, decision.evidence.labels_unmatched) == ("kept", 1)


# --- logs and reports ------------------------------------------------------------------------------------------------


def test_labels_of_a_log_come_back_as_labels(doubler, log):
    ids = doubler.predict_with_logging(numbers(1.0, 2.0), log)["request_id"].tolist()
    log.label(ids[0], 2.5)
    frame = log.to_pandas("doubler")
    assert labels_of(type(doubler), frame) == {ids[0]: 2.5}
    assert str(frame["created_at"].dtype) == "datetime64[us, UTC]"
    assert log.to_pandas("doubler", version="v9").columns.tolist() == records_frame([]).columns.tolist()


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], "int64"),
        ([1, None], "Int64"),
        ([1, 2.5], "float64"),
        ([1, 2**70], "object"),
        ([True], "bool"),
        ([True, None], "boolean"),
        (["a", None], "string"),
        ([1, "a"], "object"),
        ([[1], None], "object"),
        ([None], "object"),
        ([], "object"),
    ],
)
def test_columns_of_logs_have_the_narrowest_type(values, dtype):
    column = make_frame({"x": values})["x"]
    assert (str(column.dtype), len(column)) == (dtype, len(values))
    assert [one for one in column.tolist() if one is not None and one is not pd.NA] == [
        v for v in values if v is not None
    ]


# --- models on frames ------------------------------------------------------------------------------------------------


def test_a_model_on_frames_trains_with_all_layers(doubler_class, settings):
    """Text with gaps, nullable integers and categories, through a pipeline that selects columns by name."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    pq = pytest.importorskip("pyarrow.parquet")
    types = {"number": "float64", "unit": "category", "note": "str", "count": "Int64"}

    class Framed(doubler_class):
        trusted_types = frozenset({"numpy.dtype"})

        @classmethod
        def examples(cls, data_dir=None):
            for n in range(60):
                more = {"note": "abc"[n % 3], "count": n % 9} if n % 4 else {}
                yield Example({"number": float(n), "unit": "km" if n % 2 else "m", **more}, 2.0 * n)

        def new_estimator(self, seed):
            text = make_pipeline(
                SimpleImputer(strategy="constant", fill_value="none"),
                OneHotEncoder(handle_unknown="ignore"),
            )
            return make_pipeline(
                make_column_transformer(("passthrough", ["number"]), (OneHotEncoder(), ["unit"]), (text, ["note"])),
                LinearRegression(),
            )

        def build_inputs(self, rows):
            columns = {name: [getattr(row, name) for row in rows] for name in types}
            return pd.DataFrame(columns).astype(types)

    entry = run_training(Framed, settings)
    assert entry.promoted
    assert entry.metrics["r2"] > 0.99
    gold = pq.read_table(entry.layers["gold"].path)
    assert gold.column_names == ["record", "part", *types, "label"]
    assert gold["note"].null_count == gold["count"].null_count == 15
    check_model(Framed)


def test_a_frame_is_recognized_without_importing_pandas():
    """Neither importing the SDK nor predicting imports it, where pandas is not in use."""
    code = (
        "import sys; from machine_learning_engineering.core.frames import is_frame, is_series, labels_of; "
        "from machine_learning_engineering import MLEModel, SqlitePredictionLog, check_model; "
        "from machine_learning_engineering import run_training, train, trigger_retraining; "
        "import machine_learning_engineering.scoring.scorer, machine_learning_engineering.events.schemas; "
        "from machine_learning_engineering.drift.report import DriftReport; "
        "assert not is_frame([]) and not is_series({}) and labels_of(MLEModel, {}) == {}; "
        "print('pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert is_frame(pd.DataFrame())

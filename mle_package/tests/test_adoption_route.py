"""The route without frames: taken only where it answers exactly as the frame, also for rows that it has not seen."""

import warnings

import msgspec
import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from machine_learning_engineering.adoption import arithmetic
from machine_learning_engineering.adoption.frames import build_frame, rows_of
from machine_learning_engineering.adoption.inputs import estimator_input
from machine_learning_engineering.adoption.inspection import inspect_model
from machine_learning_engineering.adoption.opening.answers import METHODS, dense
from machine_learning_engineering.adoption.route import checked_route
from machine_learning_engineering.core.threads import cap_numeric_threads

from .support.pipelines import CASES, orders

COMPILED = (
    "one-hot-ignore",
    "one-hot-error",
    "one-hot-rare",
    "one-hot-drop",
    "ordinal-value",
    "target-encoder",
    "one-hot-knows-nan",
    "ordinal-nan-into-boosting",
    "imputer-of-none",
    "target-log",
    "grid-search",
    "scaler-MaxAbsScaler",
    "estimator-KMeans",
    "bools",
    "xgboost",
    "array-of-numbers",
)
BY_FRAMES = (
    "texts-tfidf",
    "imputer-indicator",
    "scaler-PowerTransformer",
    "boosting-of-categories",
    "dates",
    "small-integers",
)


def inspected(name: str):
    case = next(case for case in CASES if case.name == name)
    model, frame = case.make()
    features = inspect_model(model, frame).features
    return model, frame, features, rows_of(frame, features)


def answers(estimator, inputs) -> list:
    """Every output, to the bit; of a refused row, the kind of the error."""
    found = []
    for method in METHODS:
        if hasattr(estimator, method):
            try:
                answer = getattr(estimator, method)(inputs())
            except ValueError:
                found.append("refused")
                continue
            found += [dense(one).tolist() for one in (answer if isinstance(answer, list) else [answer])]
    return found


@pytest.mark.parametrize("name", COMPILED)
def test_rows_that_it_has_not_seen_are_answered_exactly(name):
    with warnings.catch_warnings(), cap_numeric_threads():
        warnings.simplefilter("ignore")
        model, frame, features, rows = inspected(name)
        route = checked_route(model, features, rows)
        assert route.compiled is not None, route.reason
        known = frame.columns
        others = (
            rows_of(orders(60)[36:].astype(dict.fromkeys(set(known) & {"payment"}, object))[list(known)], features)
            if set(known) <= set(orders(1).columns)
            else rows
        )
        others += [{**row, "country": "zz", "payment": None} for row in others[:3] if "country" in row]
        for batch in (others, *([row] for row in others[:12])):
            expected = answers(model, lambda: estimator_input(model, build_frame(batch, features)))  # noqa: B023
            assert answers(route.compiled.estimator, lambda: route.compiled.inputs(batch)) == expected  # noqa: B023


@pytest.mark.parametrize("name", BY_FRAMES)
def test_other_pipelines_go_by_frames_and_say_why(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, _, features, rows = inspected(name)
        route = checked_route(model, features, rows)
    assert route.compiled is None
    assert route.reason.startswith("by frames: ")


def test_a_route_that_is_wrong_is_not_taken(monkeypatch):
    """As after a change of scikit-learn's arithmetic."""
    model, _, features, rows = inspected("one-hot-ignore")
    wrong = arithmetic.OPERATIONS | {"StandardScaler": lambda step: lambda block: block * 1.0000001}
    monkeypatch.setattr(arithmetic, "OPERATIONS", wrong)
    route = checked_route(model, features, rows, ("decision_function", "predict_proba"))
    assert route.compiled is None or np.array_equal(
        model.predict_proba(build_frame(rows, features)),
        route.compiled.estimator.predict_proba(route.compiled.inputs(rows)),
    )
    frame = orders(20)[["amount", "country"]]
    columns = ColumnTransformer([("n", StandardScaler(), ["amount"]), ("t", OneHotEncoder(), ["country"])])
    line = make_pipeline(columns, LogisticRegression()).fit(frame, frame["amount"] > 50)
    features = inspect_model(line, frame).features
    assert "of a row of the sample is another one" in checked_route(line, features, rows_of(frame, features)).reason


def test_structs_and_mappings_are_the_same():
    model, _, features, rows = inspected("one-hot-ignore")
    route = checked_route(model, features, rows)
    row_class = msgspec.defstruct("Row", [(name, object) for name in features])
    structs = [row_class(**row) for row in rows]
    assert np.array_equal(dense(route.compiled.inputs(structs)), dense(route.compiled.inputs(rows)))
    assert route.compiled.inputs([]).shape[0] == 0


def test_a_subclass_of_a_step_is_not_taken_for_it():
    class Scaler(StandardScaler):
        def transform(self, values, copy=None):
            return super().transform(values, copy) * 2

    frame = orders(20)[["amount", "items"]]
    model = make_pipeline(Scaler(), LogisticRegression()).fit(frame, frame["amount"] > 50)
    features = inspect_model(model, frame).features
    route = checked_route(model, features, rows_of(frame, features))
    assert "Scaler is not compiled" in route.reason

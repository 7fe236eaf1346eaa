"""The contract kit: a basic valid model passes it; each law is seen failing on a model that breaks just it."""

import json
import threading
import time
from itertools import count
from typing import ClassVar

import msgspec
import numpy as np
import pytest

from machine_learning_engineering.checks import (
    LAWS,
    LawBroken,
    check_law,
    check_model,
    parametrize_with_checks,
    prepare,
)
from machine_learning_engineering.metrics import regression_metrics
from machine_learning_engineering.model import Example, MLEModel, NotWritten


class LengthFeatures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A required number, one that may be missing, and one with a default."""

    metres: float
    count: int | None = None
    tags: list[str] = []


class LengthPrediction(msgspec.Struct, frozen=True):
    feet: float


class Length(MLEModel):
    """A very basic valid model."""

    name = "length"
    Features = LengthFeatures
    Prediction = LengthPrediction
    primary_metric = "r2"

    @classmethod
    def examples(cls, data_dir=None):
        return (Example({"metres": n / 2, "count": n, "tags": ["a"]}, n * 1.5) for n in range(40))

    def new_estimator(self, seed):
        from sklearn.linear_model import LinearRegression

        return LinearRegression()

    def columns(self, rows):
        return np.array([[row.metres] for row in rows], dtype=np.float64).reshape(len(rows), 1)

    def predict(self, rows):
        return [self.Prediction(feet) for feet in self.feet(rows)]

    def feet(self, rows):
        return self.estimator.predict(self.columns(rows)).tolist() if rows else []

    def evaluate(self, predictions, labels):
        return regression_metrics([prediction.feet for prediction in predictions], labels)


@parametrize_with_checks([Length])
def test_a_basic_valid_model_keeps_every_law(model, check):
    check(model)


def test_a_basic_valid_model_passes_as_a_class_fitted_unfitted_and_on_other_examples(doubler, doubler_class):
    check_model(doubler_class)
    check_model(doubler)
    check_model(Length(), examples=[Example({"metres": float(n)}, n * 1.5) for n in range(10)])


# --- one model a law, which breaks that law and no other ------------------------------------------------------------


class Unfinished(Length):
    evaluate = MLEModel.evaluate


class BadlyNamed(Length):
    name = "Length in feet"


class Thawed(Length):
    class Prediction(msgspec.Struct):
        feet: float


class StrangeExamples(Length):
    @classmethod
    def examples(cls, data_dir=None):
        yield from super().examples()
        yield Example({"metres": "far"}, 1.0)


class Lenient(Length):
    class Features(msgspec.Struct, frozen=True):
        metres: float
        count: int | None = None
        tags: list[str] = []


class NeedsTheOptional(Length):
    def predict(self, rows):
        return [self.Prediction(feet + 0 * row.count) for feet, row in zip(self.feet(rows), rows, strict=True)]


class Converting(Length):
    def decode(self, raw):
        try:
            return msgspec.json.decode(raw, type=self.Features, strict=False)
        except msgspec.MsgspecError:
            return super().decode(raw)


class TakesNaN(Length):
    def decode(self, raw):
        try:
            return msgspec.convert(json.loads(bytes(raw)), self.Features)
        except ValueError:
            return super().decode(raw)


class Counting(Length):
    calls = count()

    def decode(self, raw):
        return msgspec.structs.replace(super().decode(raw), tags=[str(next(self.calls))])


class OtherType(Length):
    class Other(msgspec.Struct, frozen=True):
        feet: float

    def predict(self, rows):
        return [self.Other(feet) for feet in self.feet(rows)]


class NeverEmpty(Length):
    def feet(self, rows):
        return self.estimator.predict(self.columns(rows)).tolist()


class Centred(Length):
    def feet(self, rows):
        feet = super().feet(rows)
        return [one - sum(feet) / len(feet) for one in feet]


class Sorting(Length):
    def feet(self, rows):
        return sorted(super().feet(rows))


class Consuming(Length):
    def predict(self, rows):
        answers = super().predict(rows)
        rows.clear()
        return answers


class Scribbling(Length):
    def predict(self, rows):
        answers = super().predict(rows)
        for row in rows:
            row.tags.append("seen")
        return answers


class Sharing(Length):
    def predict(self, rows):
        self.current = rows
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.002)  # makes the race that is there in any case a sure one
        return super().predict(self.current)


class Infinite(Length):
    class Prediction(msgspec.Struct, frozen=True):
        feet: float
        margin: float = float("inf")


class Unseeded(Length):
    fits: ClassVar = count()

    def fit(self, rows, labels, *, seed):
        super().fit(rows, labels, seed=seed)
        self.estimator.intercept_ += next(self.fits)


class Forgetful(Length):
    offset = 0.0

    def fit(self, rows, labels, *, seed):
        super().fit(rows, labels, seed=seed)
        self.offset = float(np.mean(labels))

    def feet(self, rows):
        return [feet + self.offset for feet in super().feet(rows)]


class Unmeasured(Length):
    primary_metric = "accuracy"


BROKEN = {
    Unfinished: ("methods_are_written", r"Unfinished\.evaluate\(\)"),
    BadlyNamed: ("name_is_well_formed", "'Length in feet'"),
    Thawed: ("features_and_prediction_are_frozen", "Prediction must be declared with frozen=True"),
    StrangeExamples: ("the_schema_accepts_the_examples", "1 of the examples.*`metres` must be a number, not a text"),
    Lenient: ("an_unknown_field_is_refused", '"surprise":1'),
    NeedsTheOptional: ("missing_values_follow_the_policy", "`count` may be left out, but TypeError"),
    Converting: ("a_wrong_type_is_refused_by_name", '"metres":"1"'),
    TakesNaN: ("what_is_not_finite_is_refused_by_name", '"metres":NaN'),
    Counting: ("decode_depends_on_nothing_but_its_bytes", "decoded twice"),
    OtherType: ("one_prediction_a_row_of_its_type", "a Other instead of a LengthPrediction"),
    NeverEmpty: ("no_rows_get_no_predictions", "ValueError was raised"),
    Centred: ("a_row_alone_is_answered_as_in_a_batch", "feet=0.0"),
    Sorting: ("the_order_of_rows_does_not_matter", "two orders"),
    Consuming: ("predict_does_not_change_its_rows", "the list of rows was changed"),
    Scribbling: ("predict_does_not_change_its_rows", '"seen".* became'),
    Sharing: ("threads_get_what_one_gets", "beside other threads"),
    Infinite: ("predictions_are_finite_json", "margin=inf"),
    Unseeded: ("fitting_twice_gives_the_same_model", "fitted twice with seed"),
    Forgetful: ("a_saved_model_answers_the_same", "before and after saving"),
    Unmeasured: ("evaluate_has_the_primary_metric", "'accuracy', but evaluate"),
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_model_fails_the_law_that_it_breaks_and_no_other(broken):
    law, seen = BROKEN[broken]
    subject = prepare(broken)
    failing = {}
    for each in LAWS:
        try:
            check_law(each, subject)
        except LawBroken as error:
            failing[error.law] = str(error)
    assert list(failing) == [law], failing
    with pytest.raises(LawBroken, match=rf"^{broken.__name__} breaks the law `{law}`: .*{seen}"):
        check_model(broken)


def test_every_law_is_seen_failing():
    assert {law for law, _ in BROKEN.values()} == {law.__name__ for law in LAWS}


def test_too_few_predictions_are_counted():
    class Short(Length):
        def feet(self, rows):
            return super().feet(rows)[:-1]

    with pytest.raises(LawBroken, match="one_prediction_a_row_of_its_type`: 39 predictions for 40 rows"):
        check_model(Short)


def test_a_refusal_must_name_its_field():
    class Vague(Length):
        def decode(self, raw):
            try:
                return super().decode(raw)
            except ValueError as error:
                raise type(error)("bad request") from error

    with pytest.raises(LawBroken, match="the message does not name `surprise`: bad request"):
        check_model(Vague)


def test_a_model_that_can_not_even_be_fitted_says_what_to_write():
    class Empty(Length):
        new_estimator = MLEModel.new_estimator

    with pytest.raises(NotWritten, match=r"Empty\.new_estimator\(\) is not written yet"):
        check_model(Empty)


def test_a_model_without_examples_is_told_so():
    with pytest.raises(
        LawBroken, match="Length breaks the law `the_schema_accepts_the_examples`: there are no examples"
    ):
        check_model(Length, examples=[])


def test_the_kit_needs_pytest_only_for_its_decorator(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pytest", None)
    check_model(Length)
    with pytest.raises(ImportError):
        parametrize_with_checks([Length])

"""The contract kit: a basic valid model passes it; each law is seen failing on a model that breaks just it."""

import pytest

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.model import MethodNotImplemented
from machine_learning_engineering.sdk import MLEModel
from machine_learning_engineering.testing import fresh_process as new_process
from machine_learning_engineering.testing.check_model import (
    CheckFailed,
    check_law,
    check_model,
    parametrize_with_checks,
    prepare,
)
from machine_learning_engineering.testing.checks import CHECKS

from .support.broken_models import (
    BadlyNamed,
    Centred,
    Consuming,
    Converting,
    Counting,
    DropsTheIncomplete,
    Forgetful,
    ForgetfulClass,
    ForgetfulModule,
    Infinite,
    Length,
    Lenient,
    NaNForTheIncomplete,
    NeedsTheOptional,
    Nesting,
    NeverEmpty,
    NothingForOne,
    OtherType,
    Scribbling,
    Sharing,
    Sorting,
    StrangeExamples,
    TakesNaN,
    Telling,
    Thawed,
    TwoForOne,
    Unfinished,
    Unmeasured,
    Unseeded,
)


@pytest.fixture(autouse=True)
def no_new_process(monkeypatch):
    """As for a class of a notebook: a new process takes seconds. `test_checks_new_process.py` has those."""
    monkeypatch.setattr(new_process, "answers", lambda *arguments: None)


@parametrize_with_checks([Length])
def test_a_basic_valid_model_keeps_every_law(model, check):
    check(model)


def test_a_basic_valid_model_passes_as_a_class_fitted_unfitted_and_on_other_examples(doubler, doubler_class):
    check_model(doubler_class)
    check_model(doubler)
    check_model(Length(), examples=[Example({"metres": float(n)}, n * 1.5) for n in range(10)])


# --- what each law sees in the model that breaks it ------------------------------------------------------------------


BROKEN = {
    Unfinished: ("methods_are_written", r"Unfinished\.evaluate\(\)"),
    BadlyNamed: ("name_is_well_formed", "'Length in feet'"),
    Thawed: ("features_and_prediction_are_frozen", "Prediction must be declared with frozen=True"),
    StrangeExamples: ("the_schema_accepts_the_examples", "1 of the examples.*`metres` must be a number, not a text"),
    Lenient: ("an_unknown_field_is_refused", '"surprise":1'),
    NeedsTheOptional: ("missing_values_follow_the_policy", "`count` may be left out, but TypeError"),
    DropsTheIncomplete: ("missing_values_follow_the_policy", "`count` may be left out, but the row then gets 0"),
    NaNForTheIncomplete: ("missing_values_follow_the_policy", "`count` may be left out, .* not finite: .*feet=nan"),
    Converting: ("a_wrong_type_is_refused_by_name", '"metres":"1"'),
    TakesNaN: ("what_is_not_finite_is_refused_by_name", '"metres":NaN'),
    Counting: ("decode_depends_on_nothing_but_its_bytes", "decoded twice"),
    OtherType: ("one_prediction_a_row_of_its_type", "a Other instead of a LengthPrediction"),
    Nesting: (
        "one_prediction_a_row_of_its_type",
        r"can't be read as a LengthPrediction: Expected `float`, got `array`",
    ),
    Telling: ("one_prediction_a_row_of_its_type", r"can't be read as a LengthPrediction: Expected `float`, got `str`"),
    NeverEmpty: ("no_rows_get_no_predictions", "ValueError was raised"),
    Centred: ("a_row_alone_is_answered_as_in_a_batch", "feet=0.0"),
    NothingForOne: ("a_row_alone_is_answered_as_in_a_batch", "alone, a row gets 0 predictions"),
    TwoForOne: ("a_row_alone_is_answered_as_in_a_batch", "alone, a row gets 2 predictions"),
    Sorting: ("the_order_of_rows_does_not_matter", "two orders"),
    Consuming: ("predict_does_not_change_its_rows", "the list of rows was changed"),
    Scribbling: ("predict_does_not_change_its_rows", '"seen".* became'),
    Sharing: ("threads_get_what_one_gets", "beside other threads"),
    Infinite: ("predictions_are_finite_json", "margin=inf"),
    Unseeded: ("fitting_twice_gives_the_same_model", "fitted twice with seed"),
    Forgetful: ("a_saved_model_answers_the_same", "before and after saving"),
    ForgetfulModule: ("a_saved_model_answers_the_same", "before and after another model is fitted"),
    ForgetfulClass: ("a_saved_model_answers_the_same", "before and after another model is fitted"),
    Unmeasured: ("evaluate_has_the_primary_metric", "'accuracy', but evaluate"),
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_model_fails_the_law_that_it_breaks_and_no_other(broken):
    law, seen = BROKEN[broken]
    subject = prepare(broken)
    failing = {}
    for each in CHECKS:
        try:
            check_law(each, subject)
        except CheckFailed as error:
            failing[error.law] = str(error)
    assert list(failing) == [law], failing
    with pytest.raises(CheckFailed, match=rf"^{broken.__name__} breaks the law `{law}`: .*{seen}"):
        check_model(broken)


def test_every_law_is_seen_failing():
    assert {law for law, _ in BROKEN.values()} == {law.__name__ for law in CHECKS}


def test_too_few_predictions_are_counted():
    class Short(Length):
        def feet(self, rows):
            return super().feet(rows)[:-1]

    with pytest.raises(CheckFailed, match="one_prediction_a_row_of_its_type`: 39 predictions for 40 rows"):
        check_model(Short)


def test_a_refusal_must_name_its_field():
    class Vague(Length):
        def decode(self, raw):
            try:
                return super().decode(raw)
            except ValueError as error:
                raise type(error)("bad request") from error

    with pytest.raises(CheckFailed, match="the message does not name `surprise`: bad request"):
        check_model(Vague)


def test_a_model_that_can_not_even_be_fitted_says_what_to_write():
    class Empty(Length):
        new_estimator = MLEModel.new_estimator

    with pytest.raises(MethodNotImplemented, match=r"Empty\.new_estimator\(\) is not written yet"):
        check_model(Empty)


def test_a_model_without_examples_is_told_so():
    with pytest.raises(
        CheckFailed, match="Length breaks the law `the_schema_accepts_the_examples`: there are no examples"
    ):
        check_model(Length, examples=[])


def test_the_kit_needs_pytest_only_for_its_decorator(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pytest", None)
    check_model(Length)
    with pytest.raises(ImportError):
        parametrize_with_checks([Length])

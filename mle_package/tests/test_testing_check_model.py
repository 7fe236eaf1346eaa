"""Contract checks of models: a valid model passes; each check fails for a model that violates it alone."""

import pytest

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.model import MethodNotImplemented
from machine_learning_engineering.sdk import MLEModel
from machine_learning_engineering.testing import fresh_process
from machine_learning_engineering.testing.check_model import (
    CheckFailed,
    check_model,
    parametrize_with_checks,
    prepare,
    run_check,
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
def no_fresh_process(monkeypatch):
    """As for a class of a notebook: a fresh process takes seconds, `test_testing_fresh_process.py` starts some."""
    monkeypatch.setattr(fresh_process, "predict", lambda *arguments: None)


@parametrize_with_checks([Length])
def test_a_basic_valid_model_passes_every_check(model, check):
    check(model)


def test_a_basic_valid_model_passes_as_a_class_fitted_unfitted_and_on_other_examples(doubler, doubler_class):
    check_model(doubler_class)
    check_model(doubler)
    check_model(Length(), examples=[Example({"metres": float(n)}, n * 1.5) for n in range(10)])


# --- what each check finds -------------------------------------------------------------------------------------------


BROKEN = {
    Unfinished: ("check_methods_implemented", r"Unfinished\.evaluate\(\)"),
    BadlyNamed: ("check_name", "'Length in feet'"),
    Thawed: ("check_structs_frozen", "Prediction must be declared with frozen=True"),
    StrangeExamples: (
        "check_schema_accepts_examples",
        "1 of the examples are rejected.*`metres` must be a number, not a string",
    ),
    Lenient: ("check_rejects_unknown_field", '"surprise":1'),
    NeedsTheOptional: ("check_missing_values", "`count` may be omitted, but TypeError"),
    DropsTheIncomplete: ("check_missing_values", "`count` may be omitted, but the row then gets 0"),
    NaNForTheIncomplete: ("check_missing_values", "`count` may be omitted, .* not finite: .*feet=nan"),
    Converting: ("check_rejects_wrong_type", '"metres":"1"'),
    TakesNaN: ("check_rejects_non_finite", '"metres":NaN'),
    Counting: ("check_decode_deterministic", "decoded twice"),
    OtherType: ("check_prediction_types", "a Other instead of a LengthPrediction"),
    Nesting: (
        "check_prediction_types",
        r"can't be read as a LengthPrediction: Expected `float`, got `array`",
    ),
    Telling: ("check_prediction_types", r"can't be read as a LengthPrediction: Expected `float`, got `str`"),
    NeverEmpty: ("check_empty_batch", "ValueError was raised"),
    Centred: ("check_batch_invariance", "feet=0.0"),
    NothingForOne: ("check_batch_invariance", "alone, a row gets 0 predictions"),
    TwoForOne: ("check_batch_invariance", "alone, a row gets 2 predictions"),
    Sorting: ("check_order_invariance", "two orders"),
    Consuming: ("check_rows_unchanged", "the list of rows was changed"),
    Scribbling: ("check_rows_unchanged", '"seen".* became'),
    Sharing: ("check_thread_safety", "beside other threads"),
    Infinite: ("check_predictions_finite", "margin=inf"),
    Unseeded: ("check_fit_deterministic", "fitted twice with seed"),
    Forgetful: ("check_save_and_open", "before and after saving"),
    ForgetfulModule: ("check_save_and_open", "before and after another model is fitted"),
    ForgetfulClass: ("check_save_and_open", "before and after another model is fitted"),
    Unmeasured: ("check_primary_metric", "'accuracy', but evaluate"),
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_model_fails_one_check_only(broken):
    check, problem = BROKEN[broken]
    case = prepare(broken)
    failing = {}
    for each in CHECKS:
        try:
            run_check(each, case)
        except CheckFailed as error:
            failing[error.check] = str(error)
    assert list(failing) == [check], failing
    with pytest.raises(CheckFailed, match=rf"^{broken.__name__} fails `{check}`: .*{problem}"):
        check_model(broken)


def test_every_check_is_seen_failing():
    assert {check for check, _ in BROKEN.values()} == {check.__name__ for check in CHECKS}


def test_too_few_predictions_are_counted():
    class Short(Length):
        def feet(self, rows):
            return super().feet(rows)[:-1]

    with pytest.raises(CheckFailed, match="check_prediction_types`: 39 predictions for 40 rows"):
        check_model(Short)


def test_a_rejection_must_name_its_field():
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
    with pytest.raises(CheckFailed, match="Length fails `check_schema_accepts_examples`: there are no examples"):
        check_model(Length, examples=[])


def test_only_the_decorator_needs_pytest(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pytest", None)
    check_model(Length)
    with pytest.raises(ImportError):
        parametrize_with_checks([Length])

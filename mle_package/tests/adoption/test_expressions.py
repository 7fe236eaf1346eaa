"""Expressions of answers: what they compute, what is refused and where, and that nothing is ever run as Python."""

import contextlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.adoption.answers import compile_answers
from machine_learning_engineering.adoption.expression_types import InvalidExpression, Values
from machine_learning_engineering.adoption.expressions import compile_answer
from machine_learning_engineering.declaration.problem import DeclarationProblem
from machine_learning_engineering.declaration.schema import ModelDeclaration

CLASSES = ("no", "perhaps", "yes")
PROBABILITIES = np.array([[0.2, 0.5, 0.3], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
OUTPUTS = {
    "predict": np.array(["perhaps", "no", "yes"], dtype=object),
    "predict_proba": PROBABILITIES,
    "transform": np.array([[1.0, -2.0], [3.0, 4.5], [0.0, 2.5]]),
    "score_samples": np.array([-1.5, 0.0, 2.0]),
}


class Estimator:
    """Answers the same whatever it is asked."""

    classes_ = np.array(CLASSES)

    def __init__(self, outputs: dict[str, Any] = OUTPUTS) -> None:
        self.outputs = outputs

    def __getattr__(self, name: str) -> Any:
        if name not in self.outputs:
            raise AttributeError(name)
        return lambda inputs: self.outputs[name]


def compute(text: str, classes: tuple[Any, ...] = CLASSES, **fields: str) -> list[Any]:
    """The field `it` of an answer whose earlier fields are given."""
    model = ModelDeclaration("m", {**fields, "it": text, "measured": "predict"}, classes=classes)
    answers = compile_answers(model)
    columns = answers.compute(Estimator(), None, 3)
    made = list(map(answers.struct("Answer"), *columns))
    return [one.it for one in made]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("predict", ["perhaps", "no", "yes"]),
        ("predict_proba[:, 1]", [0.5, 0.2, 0.1]),
        ('predict_proba["yes"]', [0.3, 0.1, 0.8]),
        ("predict_proba[:, -1]", [0.3, 0.1, 0.8]),
        ("transform[:, 1]", [-2.0, 4.5, 2.5]),
        ("transform", [[1.0, -2.0], [3.0, 4.5], [0.0, 2.5]]),
        ("score_samples", [-1.5, 0.0, 2.0]),
        ('predict == "yes"', [False, False, True]),
        ('not predict != "yes"', [False, False, True]),
        ("0.2 < predict_proba[:, 2] <= 0.8", [True, False, True]),
        ('predict_proba[:, 0] > 0.5 or predict == "yes"', [False, True, True]),
        ('predict_proba[:, 0] > 0.5 and predict == "yes"', [False, False, False]),
        ('"high" if predict_proba["yes"] >= 0.5 else "low"', ["low", "low", "high"]),
        ("1 - predict_proba[:, 0] * 2", [0.6, -0.4, 0.8]),
        ("round(transform[:, 1])", [-2, 4, 2]),
        ("round(predict_proba[:, 1] / 3, 2)", [0.17, 0.07, 0.03]),
        ("int(transform[:, 1])", [-2, 4, 2]),
        ("float(predict == 'yes') + 1", [1.0, 1.0, 2.0]),
        ("bool(transform[:, 0])", [True, True, False]),
        ("text(predict == 'yes')", ["false", "false", "true"]),
        ("max(transform[:, 0], 1)", [1.0, 3.0, 1.0]),
        ("min(abs(transform[:, 1]), 2.5)", [2.0, 2.5, 2.5]),
        ("exp(log(predict_proba[:, 1]))", [0.5, 0.2, 0.1]),
        ("int(transform[:, 0]) % 2 + int(transform[:, 0]) // 2", [1, 2, 0]),
        ("-transform[:, 0]", [-1.0, -3.0, 0.0]),
        ("True", [True, True, True]),
        ("12", [12, 12, 12]),
    ],
)
def test_what_expressions_compute(text: str, expected: list[Any]) -> None:
    found = compute(text)
    assert found == pytest.approx(expected) if isinstance(expected[0], float) else found == expected
    assert [type(one) for one in found] == [type(one) for one in expected]


def test_earlier_fields_are_names() -> None:
    assert compute("sure >= 0.5", sure='predict_proba["yes"]') == [False, False, True]
    assert compute("p[:, 2] + p['yes']", p="predict_proba") == pytest.approx([0.6, 0.2, 1.6])


def test_scores_by_label_and_the_best_labels() -> None:
    assert compute("predict_proba")[1] == {"no": 0.7, "perhaps": 0.2, "yes": 0.1}
    ranked = compute("top(predict_proba, 2)")
    assert [[(one.label, one.score) for one in row] for row in ranked] == [
        [("perhaps", 0.5), ("yes", 0.3)],
        [("no", 0.7), ("perhaps", 0.2)],
        [("yes", 0.8), ("no", 0.1)],
    ]


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("predict_prob[:, 1]", 1, "did you mean `predict_proba`?"),
        ("1 + sure", 5, "`sure` is not known"),
        ("predict_proba[:, 3]", 18, "there are 3 columns"),
        ('predict_proba["yse"]', 15, "did you mean `yes`?"),
        ("predict_proba[1]", 15, "1 is no label of the model: there are 'no', 'perhaps', 'yes'"),
        ("predict_proba[1, 1]", 15, "write predict_proba[:, 1]"),
        ("transform['a']", 11, "have no labels: write transform[:, 0]"),
        ("predict_proba >= 0.5", 1, "choose a column"),
        ('predict >= 0.5 or "x" == 1', 1, "a text is compared with a number"),
        ("predict + 1", 1, "arithmetic takes numbers; this is a text"),
        ("2 ** 3", 1, "this operator is not allowed"),
        ("top(transform, 3)", 5, "a column for each of model.classes"),
        ("top(predict_proba, 0)", 1, "write top(predict_proba, 3)"),
        ("round(predict_proba, 2)", 7, "choose a column"),
        ("sqrt()", 1, "sqrt takes 1 argument"),
        ("open('x')", 1, "there is no such function"),
        ("predict.__class__", 1, "is not allowed here"),
        ("[predict]", 1, "is not allowed here"),
        ("lambda: 1", 1, "is not allowed here"),
        ("(x := 1)", 2, "is not allowed here"),
        ("predict if 1 else predict", 12, "`if` takes true or false"),
        ("  nothing", 3, "`nothing` is not known"),
        ("'é' == nothing", 8, "`nothing` is not known"),
        ("1 +", 4, "is no expression"),
        ("", 1, "is no expression"),
        ("None", 1, "is no number, text, True or False"),
        ("'a' if predict == 'no' else 1", 29, "is of another type"),
        ("1\n+ 1", 1, "one line"),
        ("9" * 501, 500, "at most 500 characters"),
        ("(" * 300 + "1" + ")" * 199, 1, "is no expression"),
    ],
)
def test_what_is_refused_and_where(text: str, position: int, problem: str) -> None:
    with pytest.raises(InvalidExpression) as refused:
        compile_answer(text, {}, CLASSES)
    if problem != "is no expression":
        assert refused.value.position == position
    assert problem in str(refused.value)


def test_the_field_is_named() -> None:
    with pytest.raises(DeclarationProblem, match=r"model\.answer\.fraud: `probabilty > 1`, position 1: `probabilty`"):
        compile_answers(
            ModelDeclaration("m", {"probability": "predict_proba[:, 1]", "fraud": "probabilty > 1"}, classes=CLASSES)
        )


def test_an_answer_that_no_label_can_be_compared_with_is_refused() -> None:
    with pytest.raises(DeclarationProblem, match='add one, such as label = "predict"'):
        compile_answers(ModelDeclaration("m", {"note": '"a text"'}, classes=CLASSES))


@pytest.mark.parametrize(
    ("answer", "classes", "how", "metric"),
    [
        ({"price": "predict"}, (), "number", "r2"),
        ({"vector": "transform"}, (), "numbers", "r2"),
        ({"p": "round(predict_proba[:, 1], 3)"}, (False, True), "probability", "roc_auc"),
        ({"s": "decision_function"}, ("a", "b"), "decision", "roc_auc"),
        ({"flag": "predict_proba[:, 1] * 2 > 1"}, (0, 1), "flag", "accuracy"),
        ({"best": "top(predict_proba, 3)"}, CLASSES, "ranking", "accuracy"),
        ({"all": "predict_proba"}, CLASSES, "scores", "accuracy"),
        ({"x": "predict_proba[:, 1]", "it": "predict"}, CLASSES, "label", "accuracy"),
    ],
)
def test_what_an_answer_is_measured_by(answer: dict[str, str], classes: tuple[Any, ...], how: str, metric: str) -> None:
    measure = compile_answers(ModelDeclaration("m", answer, classes=classes)).measure
    assert (measure.how, measure.metric) == (how, metric)
    assert measure.metric in measure.metrics


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"it": "predict"}, {"accuracy": 2 / 3}),
        ({"it": "top(predict_proba, 1)"}, {"accuracy": 2 / 3}),
        ({"it": "predict_proba"}, {"accuracy": 2 / 3}),
    ],
)
def test_metrics_of_labels(answer: dict[str, str], expected: dict[str, float]) -> None:
    answers = compile_answers(ModelDeclaration("m", answer, classes=CLASSES))
    made = list(map(answers.struct("Answer"), *answers.compute(Estimator(), None, 3)))
    assert answers.evaluate(made, ["perhaps", "yes", "yes"]) == pytest.approx(expected | {"f1": 5 / 9})


def test_the_order_of_the_estimators_own_labels_counts() -> None:
    """A version that was trained later may have another one."""
    answer = compile_answer('predict_proba["yes"]', {}, CLASSES)
    values = Values({"predict_proba": PROBABILITIES[:, ::-1]}, {}, CLASSES[::-1])
    assert answer.compute(values).tolist() == [0.3, 0.1, 0.8]


@pytest.mark.parametrize(
    ("text", "outputs", "problem"),
    [
        ("predict", {"predict": np.ones((3, 2))}, "choose a column"),
        ("transform[:, 5]", OUTPUTS, "transform has 2 columns, so there is no column 5"),
        ("int(predict)", {"predict": np.array([np.nan, 1, 2])}, "not finite"),
        ("int(predict) // 0", {"predict": np.ones(3)}, "division by zero"),
    ],
)
def test_an_output_of_another_shape_is_an_error(text: str, outputs: dict[str, Any], problem: str) -> None:
    answers = compile_answers(ModelDeclaration("m", {"it": text}))
    with pytest.raises(ValueError, match=problem):
        answers.compute(Estimator(outputs), None, 3)


_PARTS = st.sampled_from(
    [*OUTPUTS, "[:, 1]", '["yes"]', "top(", ")", "(", ",", " + ", " >= ", " if ", " else ", "0.5", "not ", "__import__",
     "round(", "'a'", ".", "lambda ", "é", "==", "\x00", "**", "{", "}"]
)  # fmt: skip


@given(st.one_of(st.text(max_size=60), st.lists(_PARTS, max_size=12).map("".join)))
def test_any_text_is_compiled_or_refused_with_a_position(text: str) -> None:
    position = 1
    try:
        answer = compile_answer(text, {}, CLASSES)
    except InvalidExpression as error:
        position = error.position
    else:
        known = OUTPUTS | dict.fromkeys(answer.outputs - OUTPUTS.keys(), OUTPUTS["score_samples"])
        # A column that is not there, an integer of no finite number, a division by zero.
        with contextlib.suppress(ValueError):
            assert answer.compute(Values(known, {}, CLASSES)) is not None
    assert 1 <= position <= len(text) + 1

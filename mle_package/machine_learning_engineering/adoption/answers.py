"""The answer of an adopted model: its fields as expressions, the struct of a prediction, and what it is measured by."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct

from machine_learning_engineering.adoption.expression_types import Answer, InvalidExpression, Scalar, Values
from machine_learning_engineering.adoption.expressions import compile_answer
from machine_learning_engineering.adoption.operations import WORDS, Ranked
from machine_learning_engineering.declaration.problem import DeclarationProblem
from machine_learning_engineering.declaration.schema import ModelDeclaration
from machine_learning_engineering.evaluation.metrics import classification_metrics, macro_f1, regression_metrics

__all__ = ["Answers", "Measure", "compile_answers"]

_TYPES: Mapping[str, Any] = {
    "float": float,
    "int": int,
    "bool": bool,
    "text": str,
    "scores": dict[str, float],
    "numbers": list[float],
    "ranking": list[Ranked],
}
_DTYPES: Mapping[str, type] = {"float": np.float64, "int": np.int64, "bool": np.bool_}


class Measure(NamedTuple):
    """Which field of the answer is measured, and how."""

    field: str
    how: str
    """``number``, ``numbers`` (the first of them), ``probability`` (of the label `positive`), ``decision`` (its score),
    ``flag`` (that it is the label `positive`), ``label``, ``scores`` or ``ranking``."""
    positive: Scalar | None = None

    @property
    def metric(self) -> str:
        """The metric that decides between two versions."""
        if self.how in ("probability", "decision"):
            return "roc_auc"
        return "r2" if self.how in ("number", "numbers") else "accuracy"

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of all metrics."""
        if self.how in ("number", "numbers"):
            return ("r2", "mae", "rmse")
        if self.how == "probability":
            return ("accuracy", "roc_auc", "f1", "log_loss")
        return ("roc_auc", "accuracy", "f1") if self.how == "decision" else ("accuracy", "f1")


class Answers:
    """Compiled expressions of an answer, in order.

    Args:
        fields: Compiled expressions by field.
        classes: Labels of a classifier.
    """

    def __init__(self, fields: Mapping[str, Answer], classes: Sequence[Scalar]) -> None:
        self.fields = dict(fields)
        self.classes = tuple(classes)
        self.outputs = frozenset[str]().union(*(answer.outputs for answer in fields.values()))
        """Outputs of the estimator that are needed."""
        self.measure = _measure(self.fields, self.classes)

    def struct(self, name: str) -> type[Struct]:
        """The schema of a prediction."""
        # A name of its own: the fields of an answer are few, and it is encoded for each request.
        return msgspec.defstruct(
            name, [(field, _TYPES[answer.kind]) for field, answer in self.fields.items()], frozen=True
        )

    def compute(self, estimator: Any, inputs: Any, rows: int) -> list[list[Any]]:
        """Compute the fields of the answers of a batch.

        Args:
            estimator: The fitted estimator.
            inputs: What it takes.
            rows: Their number.

        Returns:
            A list of `rows` values for each field, as the struct takes them.

        Raises:
            ValueError: An output has another shape than an expression needs.
        """
        outputs = {name: getattr(estimator, name)(inputs) for name in sorted(self.outputs)}
        values = Values(outputs, {}, self._labels(estimator))
        found: dict[str, Any] = {}
        with np.errstate(all="ignore"):
            for name, answer in self.fields.items():
                found[name] = answer.compute(values._replace(fields=found))
        return [_plain(found[name], answer, rows, values.labels, name) for name, answer in self.fields.items()]

    def _labels(self, estimator: Any) -> Sequence[Scalar]:
        """The labels in the estimator's own order; a version that was trained later may know fewer."""
        if not self.classes:
            return ()
        labels = getattr(estimator, "classes_", None)
        return self.classes if labels is None else tuple(np.asarray(labels).tolist())

    def evaluate(self, predictions: Sequence[Any], labels: Sequence[Any]) -> dict[str, float]:
        """Metrics of predictions; see `core.model.Model.evaluate`."""
        field, how, positive = self.measure
        try:
            values = [getattr(prediction, field) for prediction in predictions]
        except AttributeError as error:
            raise ValueError(f"the predictions have no field `{field}`: they are of another declaration") from error
        if how in ("number", "numbers"):
            return regression_metrics(values if how == "number" else [one[0] for one in values], labels)
        if how == "probability":
            return classification_metrics(values, [label == positive for label in labels])
        if how == "decision":
            flags = [label == positive for label in labels]
            ranks = classification_metrics(_squashed(values), flags)
            return {"roc_auc": ranks["roc_auc"], "accuracy": ranks["accuracy"], "f1": ranks["f1"]}
        values = [self._label_of(value) for value in values]
        return self._label_metrics(values, labels)

    def row_loss(self, prediction: Any, label: Any) -> float:
        """How wrong one prediction is: the distance of a number, or 0 for the right class and 1 for another.

        A probability above 0.5, and a score above 0, predicts the class that it belongs to.
        """
        field, how, positive = self.measure
        value = getattr(prediction, field)
        if how in ("number", "numbers"):
            return abs(float(value[0] if how == "numbers" else value) - float(label))
        if how in ("probability", "decision"):
            return float((value > (0.5 if how == "probability" else 0.0)) != (label == positive))
        return float(self._label_of(value) != label)

    def _label_of(self, value: Any) -> Any:
        """The label that a value of the measured field predicts, where that is no number."""
        how = self.measure.how
        if how == "flag":
            return self._flagged(value, self.measure.positive)
        if how == "scores":
            return self._of_text(max(value, key=value.__getitem__))
        return self._of_text(str(value[0].label)) if how == "ranking" else value

    def _flagged(self, value: bool, positive: Scalar | None) -> Scalar | None:
        return positive if value else next((one for one in self.classes if one != positive), None)

    def _of_text(self, text: str) -> Scalar | None:
        return next((one for one in self.classes if str(one) == text), None)

    def _label_metrics(self, found: Sequence[Any], labels: Sequence[Any]) -> dict[str, float]:
        known = list(dict.fromkeys([*self.classes, *labels, *found]))
        codes = {label: code for code, label in enumerate(known)}
        truth, answers = [codes[label] for label in labels], [codes[value] for value in found]
        if not truth or len(truth) != len(answers):
            raise ValueError(f"{len(answers)} answers for {len(truth)} labels")
        hits = sum(one == other for one, other in zip(truth, answers, strict=True))
        return {"accuracy": hits / len(truth), "f1": macro_f1(truth, answers, len(self.classes) or len(known))}


def compile_answers(model: ModelDeclaration) -> Answers:
    """Compile the expressions of a declaration.

    Raises:
        DeclarationProblem: One can't be used. The message names the field and the position.
    """
    fields: dict[str, Answer] = {}
    for name, text in model.answer.items():
        try:
            fields[name] = compile_answer(text, fields, model.classes)
        except InvalidExpression as error:
            raise DeclarationProblem(("model", "answer", name), f"`{text:.100}`, {error}") from error
    return Answers(fields, model.classes)


def _plain(value: Any, answer: Answer, rows: int, labels: Sequence[Scalar], name: str) -> list[Any]:
    """A list with one value per row, of the type that the struct has."""
    if answer.kind == "ranking":
        ranked: list[Any] = value
        return ranked
    found = np.asarray(value)
    if answer.kind in ("scores", "numbers"):
        if found.ndim == 1 and answer.origin is not None and answer.origin.output == "transform":
            found = found[:, np.newaxis]
        if found.ndim != 2 or len(found) != rows:
            raise ValueError(f"the answer `{name}` has the shape {found.shape} for {rows} rows: choose a column")
        numbers = found.astype(np.float64).tolist()
        if answer.kind == "numbers":
            return list(numbers)
        names = [str(label) for label in labels]
        return [dict(zip(names, one, strict=True)) for one in numbers]
    if found.ndim == 0:
        found = np.broadcast_to(found, (rows,))
    elif found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.shape != (rows,):
        raise ValueError(f"the answer `{name}` has the shape {found.shape} for {rows} rows: choose a column, [:, 0]")
    if answer.kind == "text":
        return [str(one) for one in found.tolist()]
    return list(found.astype(_DTYPES[answer.kind]).tolist())


def _squashed(scores: Sequence[float]) -> list[float]:
    """Scores in the order that they have, between 0 and 1 with 0 in the middle."""
    return [0.5 + math.atan(score) / math.pi for score in scores]


def _measure(fields: Mapping[str, Answer], classes: Sequence[Scalar]) -> Measure:
    """The first field that tells most of the label.

    Raises:
        DeclarationProblem: No field can be compared with a label.
    """
    found = [one for name, answer in fields.items() if (one := _measured(name, answer, classes)) is not None]
    if not found:
        told = ", ".join(f"{name} is {WORDS[answer.kind]}" for name, answer in fields.items())
        raise DeclarationProblem(
            ("model", "answer"), f'no field can be compared with a label ({told}): add one, such as label = "predict"'
        )
    order = ("probability", "decision", "scores", "ranking", "label", "flag", "number", "numbers")
    return min(found, key=lambda one: order.index(one.how))


def _measured(name: str, answer: Answer, classes: Sequence[Scalar]) -> Measure | None:
    origin = answer.origin
    if not classes:
        if answer.kind == "numbers":
            return Measure(name, "numbers")
        return Measure(name, "number") if answer.kind in ("float", "int", "bool") else None
    if origin is not None:
        if len(classes) == 2 and origin.column is not None and answer.kind == "float":
            if origin.output == "predict_proba":
                return Measure(name, "probability", classes[int(origin.column)])
            if origin.output == "decision_function":
                return Measure(name, "decision", classes[int(origin.column)])
        if origin == ("decision_function", None) and len(classes) == 2:
            return Measure(name, "decision", classes[1])
        if origin == ("predict", None) and answer.kind in ("bool", "int", "float", "text"):
            return Measure(name, "label")
    if answer.kind == "scores" and answer.outputs != {"predict_log_proba"}:
        return Measure(name, "scores")
    if answer.kind == "ranking":
        return Measure(name, "ranking")
    return Measure(name, "flag", classes[1]) if answer.kind == "bool" and len(classes) == 2 else None

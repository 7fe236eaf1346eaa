"""The answer of an estimator as expressions: numbers, a class and its probability, the likeliest classes, a cluster."""

import keyword
from typing import Any

import numpy as np

MAX_SCORES = 20
"""Classes up to which an answer holds the probability of each one."""
TOP = 5
_RESERVED = {"probability", "probabilities", "score", "top", "predict", "predict_proba", "transform"}


def answer_of(estimator: Any, inputs: Any, label: str, notes: list[str]) -> tuple[dict[str, str], str]:
    """Tell what an estimator answers.

    Args:
        estimator: A fitted estimator.
        inputs: What it takes, of some rows.
        label: Gives the predicted field its name.
        notes: Gets what a person should know.

    Returns:
        Expressions by field, and the kind, see `Inspection`.
    """
    field = label if label.isidentifier() and not keyword.iskeyword(label) and label not in _RESERVED else "prediction"
    if not hasattr(estimator, "predict"):
        return {"vector": "transform"}, "transform"
    predicted = np.asarray(estimator.predict(inputs))
    if predicted.ndim == 2 and predicted.shape[1] > 1:
        notes.append(f"the model predicts {predicted.shape[1]} values a row")
        return {f"{field}_{number}": f"predict[:, {number}]" for number in range(predicted.shape[1])}, "regressions"
    kind = getattr(estimator, "_estimator_type", None) or _kind(estimator)
    if kind == "clusterer":
        return {"cluster": "predict"}, "clusters"
    if kind == "outlier_detector":
        return {"score": "score_samples", "outlier": "predict < 0"}, "outliers"
    if kind != "classifier":
        column = "[:, 0]" if predicted.ndim == 2 else ""
        return {field: f"predict{column}"}, "regression"
    return _classes(estimator, inputs, predicted, field, notes)


def _kind(estimator: Any) -> str | None:
    from sklearn.utils import get_tags

    found = get_tags(estimator).estimator_type
    return None if found is None else str(found)


def _classes(estimator: Any, inputs: Any, predicted: Any, field: str, notes: list[str]) -> tuple[dict[str, str], str]:
    classes = np.asarray(estimator.classes_).tolist()
    kind = "binary" if len(classes) == 2 else "classes"
    if not hasattr(estimator, "predict_proba"):
        notes.append("the model gives no probabilities: only the class is answered")
        return {field: "predict"}, kind
    probabilities = np.asarray(estimator.predict_proba(inputs))
    if kind == "binary":
        return _binary(classes, probabilities, predicted, field, notes), kind
    if len(classes) <= MAX_SCORES:
        return {field: "predict", "probabilities": "predict_proba"}, kind
    notes.append(f"the model knows {len(classes)} classes: the {TOP} likeliest are answered")
    return {field: "predict", "top": f"top(predict_proba, {TOP})"}, kind


def _binary(classes: list[Any], probabilities: Any, predicted: Any, field: str, notes: list[str]) -> dict[str, str]:
    likely = probabilities[:, 1] > 0.5
    decided = predicted == np.asarray(classes)[1]
    answer = {"probability": "predict_proba[:, 1]"}
    if not np.array_equal(likely, decided):
        notes.append("the model does not decide at a probability of 0.5: its own decision is answered")
        return answer | {field: "predict"}
    if classes in ([False, True], [0, 1]):
        # Greater, not equal: at 0.5 itself, the first class is predicted.
        notes.append(
            f"{field} is true where the probability of {classes[1]} is above 0.5: move the threshold in `answer`"
        )
        return answer | {field: "probability > 0.5"}
    notes.append(f"probability is the one of {classes[1]!r:.60}")
    return answer | {field: "predict"}

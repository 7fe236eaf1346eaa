"""What a fitted estimator takes and answers, as far as it and a sample tell."""

from typing import Any, NamedTuple

from machine_learning_engineering.declaration.schema import FeatureDeclaration

__all__ = ["Inspection", "inspect_model"]


class Inspection(NamedTuple):
    """Features and answer of a model."""

    features: dict[str, FeatureDeclaration]
    answer: dict[str, str]
    kind: str
    notes: list[str]


def inspect_model(estimator: Any, sample: Any, label: str, signature: Any = None) -> Inspection:
    """Tell a model's features and answer.

    Args:
        estimator: The fitted estimator.
        sample: A `pandas.DataFrame` of rows as it was fitted on, with or without the label; None if there is none.
        label: Column of the label.

    Raises:
        ValueError: There is no sample.
    """
    if sample is None:
        raise ValueError("a sample is needed: --sample FILE")
    names = [str(name) for name in getattr(estimator, "feature_names_in_", sample.columns.drop(label, errors="ignore"))]
    features = {name: _feature(sample[name]) for name in names}
    classes = getattr(estimator, "classes_", None)
    if classes is None:
        return Inspection(features, {"prediction": "predict"}, "regression", [])
    if len(classes) == 2 and hasattr(estimator, "predict_proba"):
        flag = label if label not in ("probability", "label") else "positive"
        return Inspection(features, {"probability": "predict_proba[:, 1]", flag: "probability >= 0.5"}, "classes", [])
    return Inspection(features, {"prediction": "predict"}, "classes", [])


def _feature(column: Any) -> FeatureDeclaration:
    present = column.dropna()
    missing: Any = "ok" if len(present) < len(column) else "refuse"
    values = present.tolist()
    kind = column.dtype.kind if hasattr(column.dtype, "kind") else "O"
    if kind == "b" or (values and all(isinstance(value, bool) for value in values)):
        return FeatureDeclaration("bool", missing=missing)
    if kind in "iuf":
        whole = kind in "iu"
        least, most = float(present.min()), float(present.max())
        example = int(values[0]) if whole else float(values[0])
        return FeatureDeclaration("int" if whole else "float", missing=missing, range=(least, most), example=example)
    known = tuple(sorted({str(value) for value in values}))
    return FeatureDeclaration("text", missing=missing, known=known if len(known) <= 50 else (), example=str(values[0]))

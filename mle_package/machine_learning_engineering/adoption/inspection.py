"""What a fitted estimator takes and answers, as far as it and a sample tell."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from machine_learning_engineering.adoption.columns import Column, describe, described_without_sample
from machine_learning_engineering.adoption.encoders import encoded_columns, missing_texts
from machine_learning_engineering.adoption.frames import build_frame, rows_of
from machine_learning_engineering.adoption.inputs import column_names, estimator_input, input_form
from machine_learning_engineering.adoption.outputs import answer_of
from machine_learning_engineering.core.threads import cap_numeric_threads
from machine_learning_engineering.declaration.schema import FeatureDeclaration

__all__ = ["Inspection", "inspect_model"]

_PROBED = 20


class Inspection(NamedTuple):
    """Features and answer of a model."""

    features: dict[str, FeatureDeclaration]
    answer: dict[str, str]
    """Expressions by field."""
    kind: str
    """``regression``, ``regressions`` (several numbers), ``binary``, ``classes``, ``clusters``, ``outliers`` or
    ``transform``."""
    notes: list[str]
    """What a person should know or decide."""


def inspect_model(estimator: Any, sample: Any = None, label: str = "label", signature: Any = None) -> Inspection:
    """Tell a model's features and answer.

    Args:
        estimator: The fitted estimator.
        sample: A `pandas.DataFrame` of rows as it was fitted on, with or without the label; None if there is none.
        label: Column of the label.
        signature: MLflow's, which tells types where there is no sample.

    Raises:
        ValueError: The sample lacks columns of the estimator. The message names them.
    """
    notes: list[str] = []
    given = [] if sample is None else [str(name) for name in sample.columns if name != label]
    names = column_names(estimator, given)
    encoded, imputed = encoded_columns(estimator, names), missing_texts(estimator, names)
    if sample is None:
        columns = described_without_sample(names, encoded, signature, input_form(estimator))
        notes.append("there is no sample: types are guessed, there are no ranges, and parity was not checked")
    else:
        frame = _chosen(sample, names, given, estimator, notes)
        columns = describe(frame, encoded, imputed)
    features = {name: column.feature for name, column in columns.items()}
    rows = rows_of(frame, features) if sample is not None else [_made_up(columns)]
    notes += [note for column in columns.values() for note in column.notes]
    with cap_numeric_threads():
        features = _with_missing(estimator, features, rows[:_PROBED], notes)
        inputs = estimator_input(estimator, build_frame(rows[:1000], features))
        answer, kind = answer_of(estimator, inputs, label, notes)
    return Inspection(features, answer, kind, notes)


def _chosen(sample: Any, names: Sequence[str], given: Sequence[str], estimator: Any, notes: list[str]) -> Any:
    """The sample's columns of the estimator, in its order."""
    if getattr(estimator, "feature_names_in_", None) is None and list(names) != list(given):
        if len(given) < len(names) or input_form(estimator) == "column":
            chosen = [name for name in given if name in names]
            if len(chosen) == len(names):
                return sample[chosen]
        raise ValueError(
            f"the model was fitted on {len(names)} columns without names, the sample has {len(given)} besides the "
            "label: give it the columns of the model, in their order"
        )
    if missing := [name for name in names if name not in sample.columns]:
        raise ValueError(f"the sample lacks columns that the model was fitted on: {', '.join(missing):.500}")
    if more := [name for name in given if name not in names]:
        notes.append(f"columns of the sample that the model does not use: {', '.join(more):.500}")
    return sample[list(names)]


def _made_up(columns: dict[str, Column]) -> dict[str, Any]:
    plain: dict[str, Any] = {"float": 0.0, "int": 0, "bool": False, "text": "text"}
    return {
        name: one.feature.known[0] if one.feature.known else plain[one.feature.type] for name, one in columns.items()
    }


def _with_missing(
    estimator: Any, features: dict[str, FeatureDeclaration], rows: list[dict[str, Any]], notes: list[str]
) -> dict[str, FeatureDeclaration]:
    """Ask the estimator which values may be missing: what it answers with a number, and no error, is accepted."""
    found = dict(features)
    refused: list[str] = []
    for name, feature in features.items():
        if not rows:
            break
        optional = msgspec.structs.replace(feature, missing="ok")
        # The row as it would come: typed, with nothing in this column.
        probed = [row | {name: None} for row in rows[:3]]
        if _answers(estimator, probed, {**found, name: optional}):
            found[name] = optional
        elif feature.missing == "ok":
            found[name] = msgspec.structs.replace(feature, missing="refuse")
            refused.append(name)
    if refused:
        notes.append(
            f"the sample has missing values in {', '.join(refused):.500}, which the model does not answer: they are "
            "refused"
        )
    return found


def _answers(estimator: Any, rows: list[dict[str, Any]], features: dict[str, FeatureDeclaration]) -> bool:
    import numpy as np

    ask = next(
        getattr(estimator, method) for method in ("predict_proba", "predict", "transform") if hasattr(estimator, method)
    )
    try:
        answer = ask(estimator_input(estimator, build_frame(rows, features)))
    except Exception:  # A pipeline may raise anything where a value is missing.
        return False
    if hasattr(answer, "toarray"):
        answer = answer.toarray()
    for one in answer if isinstance(answer, list) else [answer]:
        array = np.asarray(one)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return False
    return True

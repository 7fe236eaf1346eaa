"""What a fitted estimator takes: a frame with named columns, an array, or one column of texts."""

from typing import Any, Literal

Form = Literal["frame", "array", "column"]

_INNER = ("best_estimator_", "regressor_", "estimator_", "estimator")


def input_form(estimator: Any) -> Form:
    """The form of the inputs that an estimator was fitted on."""
    if getattr(estimator, "feature_names_in_", None) is not None:
        return "frame"
    return "column" if _takes_texts(estimator) else "array"


def column_names(estimator: Any, columns: list[str]) -> list[str]:
    """Names of an estimator's inputs: those that it was fitted on, or else `columns`, or else ``x0``, ``x1``..."""
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None:
        return [str(name) for name in names]
    if input_form(estimator) == "column":
        return columns[:1] or ["text"]
    count = getattr(estimator, "n_features_in_", None)
    return columns if count is None or count == len(columns) else [f"x{number}" for number in range(count)]


def estimator_input(estimator: Any, frame: Any) -> Any:
    """A frame's rows in the form that an estimator takes.

    Raises:
        ValueError: Columns are missing, or there is another number of them.
    """
    form = input_form(estimator)
    if form == "frame":
        names = list(estimator.feature_names_in_)
        if missing := [str(name) for name in names if name not in frame.columns]:
            raise ValueError(f"there are no columns {', '.join(missing):.500}, which the model was fitted on")
        return frame if names == list(frame.columns) else frame[names]
    if form == "column":
        return frame.iloc[:, 0].to_numpy()
    count = getattr(estimator, "n_features_in_", frame.shape[1])
    if frame.shape[1] != count:
        raise ValueError(f"there are {frame.shape[1]} columns; the model was fitted on {count}, which have no names")
    return frame.to_numpy()


def leading_steps(estimator: Any) -> list[Any]:
    """The steps that see an estimator's inputs first: through pipelines, unions and estimators around another one."""
    if hasattr(estimator, "steps"):
        steps = [step for _, step in estimator.steps if step not in (None, "passthrough")]
        return leading_steps(steps[0]) if steps else []
    if hasattr(estimator, "transformer_list"):
        return [found for _, one in estimator.transformer_list for found in leading_steps(one)]
    for name in _INNER:
        inner = getattr(estimator, name, None)
        if inner is not None and not isinstance(inner, str) and hasattr(inner, "get_params"):
            return leading_steps(inner)
    if many := getattr(estimator, "calibrated_classifiers_", None):
        return leading_steps(many[0])
    return [estimator]


def _takes_texts(estimator: Any) -> bool:
    # Vectorizers of texts are the only steps with an analyzer.
    return any(hasattr(step, "analyzer") and hasattr(step, "ngram_range") for step in leading_steps(estimator))

"""The file of a fitted estimator: skops, opened only if every type in it is on an allow-list. Never pickle."""

from typing import Any

from machine_learning_engineering.core.model import Model
from machine_learning_engineering.registry.manifest import CorruptModel

MODEL_FILE = "model.skops"

# Types of scikit-learn that skops does not trust by itself. Each holds arrays and numbers only.
TRUSTED_TYPES = frozenset({"sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"})


def dumps(model: Model) -> bytes:
    """The file of a model's estimator.

    Raises:
        CorruptModel: it would not be opened again.
    """
    import skops.io

    content: bytes = skops.io.dumps(model.estimator)
    # A version that can't be opened again must not come into being.
    check_types(content, type(model), "new version")
    return content


def loads(content: bytes, model_class: type[Model], what: str) -> Any:
    """The estimator in a file.

    Raises:
        CorruptModel: it is no such file, holds types that are not trusted, or can't be built with the code that is
            installed.
    """
    import skops.io

    types = check_types(content, model_class, what)
    try:
        return skops.io.loads(content, trusted=types)
    except Exception as error:  # Whatever a type that has changed or is gone raises while it is built.
        raise CorruptModel(
            f"{MODEL_FILE} of {what} can't be opened ({type(error).__name__}: {error}): the code of its classes or the "
            "installed versions of the libraries may differ from those that it was saved with; install those, or run "
            f"inflight train {model_class.name}"
        ) from error


def check_types(content: bytes, model_class: type[Model], what: str) -> list[str]:
    """The types within a skops file beyond those that skops trusts, all of them on the allow-list.

    Raises:
        CorruptModel: it is no such file, or holds others.
    """
    import skops.io

    try:
        types: list[str] = skops.io.get_untrusted_types(data=content)
    except Exception as error:  # Whatever skops trips over, the file is not one that can be opened.
        raise CorruptModel(f"{MODEL_FILE} of {what} is not a skops file: {error}") from error
    if unknown := sorted(set(types) - TRUSTED_TYPES - model_class.trusted_types):
        raise CorruptModel(
            f"{MODEL_FILE} of {what} holds types that are not trusted: {', '.join(unknown)}; it was not opened. "
            f"If they are the model's own, list them in {model_class.__name__}.trusted_types"
        )
    return types

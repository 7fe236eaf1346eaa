"""The file of a fitted estimator, in the skops format. It is opened only if each type in it is on an allow-list."""

from typing import Any

from machine_learning_engineering.core.model import Model
from machine_learning_engineering.registry.manifest import CorruptModel

MODEL_FILE = "model.skops"

# Types of scikit-learn that skops does not trust by default. Each holds arrays and numbers only.
TRUSTED_TYPES = frozenset({"sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"})


def dumps(model: Model) -> bytes:
    """Serialize a model's estimator.

    Raises:
        CorruptModel: The estimator holds untrusted types, so the file could not be opened again.
    """
    import skops.io

    content: bytes = skops.io.dumps(model.estimator)
    check_types(content, type(model), "new version")
    return content


def loads(content: bytes, model_class: type[Model], what: str) -> Any:
    """Deserialize an estimator.

    Args:
        content: A skops file.
        model_class: Its `trusted_types` are allowed as well.
        what: The version, for error messages.

    Raises:
        CorruptModel: `content` is not a skops file, holds untrusted types, or can't be built with the installed code.
    """
    import skops.io

    types = check_types(content, model_class, what)
    try:
        return skops.io.loads(content, trusted=types)
    except Exception as error:  # A type that changed or is missing may raise anything while it is built.
        raise CorruptModel(
            f"{MODEL_FILE} of {what} can't be opened ({type(error).__name__}: {error}): the code of its classes or the "
            "installed versions of the libraries may differ from those that it was saved with; install those, or run "
            f"inflight train {model_class.name}"
        ) from error


def check_types(content: bytes, model_class: type[Model], what: str) -> list[str]:
    """Check that each type in a skops file is on the allow-list.

    Returns:
        The types in the file that skops does not trust by default.

    Raises:
        CorruptModel: `content` is not a skops file, or holds untrusted types.
    """
    import skops.io

    try:
        types: list[str] = skops.io.get_untrusted_types(data=content)
    except Exception as error:  # skops may raise anything on a malformed file.
        raise CorruptModel(
            f"{MODEL_FILE} of {what} is not a skops file: {error}; restore it, or run inflight train {model_class.name}"
        ) from error
    if unknown := sorted(set(types) - TRUSTED_TYPES - model_class.trusted_types):
        raise CorruptModel(
            f"{MODEL_FILE} of {what} holds types that are not trusted: {', '.join(unknown)}; it was not opened. "
            f"If they are the model's own, list them in {model_class.__name__}.trusted_types"
        )
    return types

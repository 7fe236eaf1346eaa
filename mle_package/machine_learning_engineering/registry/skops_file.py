"""The file of a fitted estimator, in the skops format. It is opened only if each type in it is on an allow-list."""

import io
import zipfile
from collections.abc import Iterator
from typing import Any

from machine_learning_engineering.core.model import Model
from machine_learning_engineering.registry.manifest import CorruptModel

MODEL_FILE = "model.skops"

# Types that skops does not trust by default. Each holds arrays and numbers only, or computes with them.
TRUSTED_TYPES = frozenset(
    {
        "numpy.dtype",  # OneHotEncoder, OrdinalEncoder, SimpleImputer, KBinsDiscretizer
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.feature_selection._univariate_selection.f_regression",
    }
)
MAX_UNPACKED_BYTES = 1024**3
"""Maximum size of a file's parts in memory; a small file may unpack to much more than it has on disk."""
_SAFE_INPUT = "content"


def dumps(model: Model) -> bytes:
    """Serialize a model's estimator.

    Raises:
        CorruptModel: The estimator holds untrusted types, so the file could not be opened again.
    """
    import skops.io

    content: bytes = skops.io.dumps(model.estimator)
    check_types(content, type(model), "new version")
    _check_parameters(model.estimator, type(model), "new version")
    return content


def loads(content: bytes, model_class: type[Model], what: str) -> Any:
    """Deserialize an estimator.

    Args:
        content: A skops file.
        model_class: Its `trusted_types` are allowed as well.
        what: The version, for error messages.

    Raises:
        CorruptModel: `content` is not a skops file, holds untrusted types, reads files, or can't be built with the
            installed code.
    """
    import skops.io

    types = check_types(content, model_class, what)
    try:
        estimator = skops.io.loads(content, trusted=types)
    except Exception as error:  # A type that changed or is missing may raise anything while it is built.
        raise CorruptModel(
            f"{MODEL_FILE} of {what} can't be opened ({type(error).__name__}: {error!s:.500}): the code of its "
            "classes or the installed versions of the libraries may differ from those that it was saved with; install "
            f"those, or run inflight train {model_class.name}"
        ) from error
    _check_parameters(estimator, model_class, what)
    for part in _parts(estimator):
        if isinstance(vars(part).get("n_jobs"), int):
            # A worker predicts in one thread; more processes or threads for it would only wait for each other.
            part.n_jobs = 1
    return estimator


def types_of(content: bytes) -> list[str]:
    """Names of the types in a valid skops file that skops does not trust by default."""
    import skops.io

    found: list[str] = skops.io.get_untrusted_types(data=content)
    return found


def check_types(content: bytes, model_class: type[Model], what: str) -> list[str]:
    """Check that each type in a skops file is on the allow-list.

    Returns:
        The types in the file that skops does not trust by default.

    Raises:
        CorruptModel: `content` is not a skops file, or holds untrusted types.
    """
    import skops.io

    _check_size(content, model_class, what)
    try:
        types: list[str] = skops.io.get_untrusted_types(data=content)
    except Exception as error:  # skops may raise anything on a malformed file.
        raise CorruptModel(
            f"{MODEL_FILE} of {what} is not a skops file: {error!s:.500}; "
            f"restore it, or run inflight train {model_class.name}"
        ) from error
    if unknown := sorted(set(types) - TRUSTED_TYPES - model_class.trusted_types):
        raise CorruptModel(
            f"{MODEL_FILE} of {what} holds types that are not trusted: {', '.join(unknown):.1000}; it was not opened. "
            f"If they hold only arrays and numbers, list them in {model_class.__name__}.trusted_types; a function or a "
            "class that runs code of its own must not be in the file"
        )
    return types


def _check_size(content: bytes, model_class: type[Model], what: str) -> None:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as parts:
            size = sum(part.file_size for part in parts.infolist())
    except Exception:  # Besides BadZipFile, zipfile raises several others on a malformed file.
        return  # skops has the message.
    if size > MAX_UNPACKED_BYTES:
        raise CorruptModel(
            f"{MODEL_FILE} of {what} unpacks to {size:,} bytes, more than {MAX_UNPACKED_BYTES:,}; it was not opened: "
            f"restore it, or run inflight train {model_class.name}"
        )


def _check_parameters(estimator: Any, model_class: type[Model], what: str) -> None:
    """Check that no part of an estimator reads or writes files.

    The types are trusted, but some have parameters that make them take a request's text for the name of a file, or
    keep what they computed in a folder.

    Raises:
        CorruptModel: A part would do so. The message names its parameter.
    """
    for part in filter(_is_of_sklearn, _parts(estimator)):
        parameters = vars(part)
        name = type(part).__name__
        if str(parameters.get("input", _SAFE_INPUT)) != _SAFE_INPUT:
            problem = f"{name}(input={parameters['input']!r}) would read files that requests name"
        elif parameters.get("memory") is not None:
            problem = f"{name}(memory=...) would write to a folder and read pickles from it"
        else:
            continue
        raise CorruptModel(
            f"{MODEL_FILE} of {what}: {problem}; it was refused: leave the parameter at its default, and run inflight "
            f"train {model_class.name}"
        )


def _is_of_sklearn(part: Any) -> bool:
    """Tell whether the class of an object or a base of it is from scikit-learn, which its parameters then are too."""
    modules = (base.__module__ for base in type(part).__mro__)
    return any(
        name.startswith("sklearn.") and not name.startswith(("sklearn.base", "sklearn.utils")) for name in modules
    )


def _parts(estimator: Any) -> Iterator[Any]:
    """Yield an estimator and all estimators within it, parameters and fitted ones, each once."""
    import numpy as np
    from sklearn.base import BaseEstimator

    seen: set[int] = set()
    pending = [estimator]
    while pending:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, dict):
            pending += one.values()
        elif isinstance(one, list | tuple | set | frozenset):
            pending += one
        elif isinstance(one, np.ndarray):
            if one.dtype == object:  # The trees of a gradient boosting.
                pending += one.ravel().tolist()
        elif hasattr(one, "__dict__") and not isinstance(one, type):
            if isinstance(one, BaseEstimator) or type(one).__module__.startswith("sklearn."):
                yield one
            pending += vars(one).values()

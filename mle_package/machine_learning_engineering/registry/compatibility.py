"""Whether the installed code can open a version: its schemas, and the versions of the libraries that its file needs."""

from importlib.metadata import PackageNotFoundError, version
from typing import TypeVar, cast

import msgspec

from machine_learning_engineering.core.model import Model
from machine_learning_engineering.registry import skops_file
from machine_learning_engineering.registry.manifest import CorruptModel, IncompatibleModel, Manifest, schemas_equivalent

ModelT = TypeVar("ModelT", bound=Model)

# By module: the distributions that install it, and how many parts of the version must be equal. Arrays of NumPy are
# read by any minor version; a file of XGBoost's is not promised to be.
_LIBRARIES = {"numpy": (("numpy",), 1), "xgboost": (("xgboost-cpu", "xgboost"), 2)}


def libraries(content: bytes) -> dict[str, str]:
    """Versions of the libraries besides scikit-learn that a skops file depends on, by module."""
    used = {"numpy", *(name.partition(".")[0] for name in skops_file.types_of(content))}
    found = {module: _installed(module) for module in sorted(used & _LIBRARIES.keys())}
    return {module: number for module, number in found.items() if number is not None}


def declared_class(content: bytes, model_class: type[ModelT], what: str) -> type[ModelT]:
    """The class that an adopted version is opened with: a later version may declare other features.

    Raises:
        CorruptModel: The declaration can't be used.
    """
    try:
        return cast(type[ModelT], model_class.declared_by(content))
    except ValueError as error:
        raise CorruptModel(f"the declaration of {what} can't be used: {error!s:.1000}") from error


def check(manifest: Manifest, model_class: type[Model], what: str) -> None:
    """Check that the installed code fits a version.

    Raises:
        IncompatibleModel: It does not. The message names what differs.
    """
    import sklearn

    train = f"run inflight train {manifest.name}"
    if not schemas_equivalent(manifest.features_schema, model_class.schema()):
        raise IncompatibleModel(f"{what} was trained for other features than the code has: {train}")
    prediction = manifest.prediction_schema
    if prediction and not schemas_equivalent(prediction, msgspec.json.schema(model_class.Prediction)):
        raise IncompatibleModel(f"{what} was trained for another `Prediction` than the code has: {train}")
    if manifest.scikit_learn_version.split(".")[:2] != sklearn.__version__.split(".")[:2]:
        raise IncompatibleModel(
            f"{what} was trained with scikit-learn {manifest.scikit_learn_version:.128}, installed is "
            f"{sklearn.__version__}: {train}"
        )
    for module, number in manifest.libraries.items():
        parts = _LIBRARIES[module][1] if module in _LIBRARIES else 1
        installed = _installed(module)
        if installed is None or installed.split(".")[:parts] != number.split(".")[:parts]:
            raise IncompatibleModel(
                f"{what} was trained with {module:.128} {number:.128}, installed is {installed or 'none'}: "
                f"install that version, or {train}"
            )


def _installed(module: str) -> str | None:
    for name in _LIBRARIES.get(module, ((module,), 1))[0]:
        try:
            return version(name)
        except (PackageNotFoundError, ValueError):  # ValueError: an empty name.
            continue
    return None

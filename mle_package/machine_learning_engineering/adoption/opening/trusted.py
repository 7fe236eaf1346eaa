"""Opening skops files of strangers: by the registry's list of types, before anything in them is made."""

from typing import Any

from machine_learning_engineering.adoption.opening.refusal import ModelRefused
from machine_learning_engineering.registry import skops_file

_WHY = {
    "function": "a function of your own would have to run here: write the step with scikit-learn's classes",
    "method": "a method of your own would have to run here",
    "type": "classes as values are not kept",
    "operator": "a function that fetches attributes can fetch any",
    "functools": "a partial function can hold any other",
}


def loads(content: bytes, name: str) -> tuple[Any, tuple[str, ...]]:
    """Open a skops file.

    Returns:
        The estimator, and the types in it that skops does not trust on its own.

    Raises:
        ModelRefused: It holds other types than the registry trusts, reads files, or is damaged.
    """
    import skops.io

    if (size := skops_file.unpacked_size(content)) > skops_file.MAX_UNPACKED_BYTES:
        raise ModelRefused(f"{name} unpacks to {size:,} bytes, more than {skops_file.MAX_UNPACKED_BYTES:,}")
    try:
        types: list[str] = skops.io.get_untrusted_types(data=content)
    except Exception as error:  # skops may raise anything on a malformed file.
        raise ModelRefused(f"{name} is not a skops file: {error!s:.500}") from error
    if unknown := sorted(set(types) - skops_file.TRUSTED_TYPES - skops_file.BOOSTER_TYPES):
        raise ModelRefused(f"{name} holds types that are not trusted, and was not opened: {_told(unknown)}")
    try:
        estimator = skops.io.loads(content, trusted=types)
    except Exception as error:  # A type that changed or is missing may raise anything while it is built.
        raise ModelRefused(
            f"{name} can't be opened ({type(error).__name__}: {error!s:.500}): install the versions of the libraries "
            "that the model was fitted with"
        ) from error
    if problem := skops_file.unsafe_parameter(estimator):
        raise ModelRefused(f"{name}: {problem}; leave the parameter at its default, and fit the model again")
    if not hasattr(estimator, "predict") and not hasattr(estimator, "transform"):
        raise ModelRefused(f"{name} holds a {type(estimator).__name__}, which neither predicts nor transforms")
    skops_file.use_one_thread(estimator)
    return estimator, tuple(sorted(types))


def _told(types: list[str]) -> str:
    return "; ".join(f"{one:.200}{_why(one)}" for one in types[:10])


def _why(name: str) -> str:
    return next((f" ({why})" for part, why in _WHY.items() if part in name.split(".")), "")

"""Fitted models from skops files."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from machine_learning_engineering.registry.skops_file import TRUSTED_TYPES

__all__ = ["ModelRefused", "OpenedModel", "open_model"]


class ModelRefused(ValueError):
    """A file was not opened. The message names what it asked for, and the fix."""


class OpenedModel(NamedTuple):
    """A fitted estimator, and where it comes from."""

    estimator: Any
    content: bytes
    types: tuple[str, ...]
    format: str
    sha256: str
    scikit_learn_version: str
    signature: Any = None
    answers: Any = None


def open_model(source: str, sample: Any = None) -> OpenedModel:
    """Open a fitted model.

    Raises:
        ModelRefused: It is no skops file, or holds types that are not trusted.
        OSError: It can't be read.
    """
    import sklearn
    import skops.io

    content = Path(source).read_bytes()
    try:
        types = skops.io.get_untrusted_types(data=content)
    except Exception as error:
        raise ModelRefused(f"{source} is no skops file: {error!s:.500}") from error
    if unknown := sorted(set(types) - TRUSTED_TYPES):
        raise ModelRefused(f"{source} asks for {', '.join(unknown):.500}")
    estimator = skops.io.loads(content, trusted=types)
    digest = hashlib.sha256(content).hexdigest()
    return OpenedModel(estimator, content, tuple(types), "skops", digest, sklearn.__version__)

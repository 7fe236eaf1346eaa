"""The key under which monitoring groups predictions."""

from typing import NamedTuple


class ModelVersion(NamedTuple):
    """A version of a model."""

    model: str
    version: str

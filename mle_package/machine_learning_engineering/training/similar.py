"""The index of similar rows of a training, for models that declare which rows are similar."""

import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from machine_learning_engineering.core.model import Model
from machine_learning_engineering.observability.redaction import redacted_names
from machine_learning_engineering.registry import similar
from machine_learning_engineering.settings import KernelSettings

logger = logging.getLogger(__name__)


def index_of(model: Model, settings: KernelSettings, rows: Sequence[Any], labels: Sequence[Any]) -> bytes | None:
    """Write the index of the rows that a model was fitted on, see `registry.similar`. Redacted features are left out.

    Args:
        model: a model.
        settings: rules of redaction.
        rows: decoded rows, in the order of the training data.
        labels: their labels.

    Returns:
        The file. None if the model declares no similarity; and, with a warning, if a feature that it needs is redacted,
        or if the file would be too large.
    """
    declared = model.similarity()
    if declared is None:
        return None
    hidden = set(redacted_names(settings, model))
    if needed := sorted(hidden.intersection((*declared.by, declared.nearest))):
        logger.warning("%s gets no index of similar rows: its feature %s is redacted", model.name, needed[0])
        return None
    plain = [{name: value for name, value in msgspec.to_builtins(row).items() if name not in hidden} for row in rows]
    content = similar.encode(declared, plain, labels)
    if content is None:
        logger.warning(
            "%s gets no index of similar rows: it would have more than %d bytes; train on fewer rows",
            model.name,
            similar.MAX_BYTES,
        )
    return content

"""A labelled example: one row of a dataset."""

from typing import Any, NamedTuple

__all__ = ["Example"]


class Example(NamedTuple):
    """One row of a dataset."""

    features: dict[str, Any]
    """JSON values, as in a request."""
    label: Any
    """True value."""
    group: str | None = None
    """Examples of one group, such as the sentences of one text, are never split between training and test set."""

"""A labelled example: one row of a dataset."""

from typing import Any, NamedTuple

__all__ = ["Example"]


class Example(NamedTuple):
    """One row of a dataset: `features` as a request has them (JSON values), and the true answer.

    Examples of one `group`, such as the sentences of one text, are never split between fitting and measuring.
    """

    features: dict[str, Any]
    label: Any
    group: str | None = None

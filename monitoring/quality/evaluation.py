"""What an evaluator of live predictions has to provide."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from machine_learning_engineering.events.schemas import LiveMetric
from monitoring.model_version import ModelVersion


class Evaluation(NamedTuple):
    """Metrics of predictions, the name of the primary one, the number of rows, and the confidence of the intervals.

    `undefined` names the metrics that these rows do not define, perhaps the primary one.
    """

    metrics: list[LiveMetric]
    primary: str
    rows: int
    confidence: float
    undefined: tuple[str, ...] = ()


class EvaluationError(Exception):
    """The metrics of these predictions are undefined. The message says why and quotes no value of a request."""


class Evaluator(Protocol):
    """Knows the models; implemented outside of `monitoring`."""

    def rejection_reason(self, model: str, label: bytes) -> str | None:
        """Why a label (JSON text) is not one of the model; None if it is, or if the model is unknown."""

    def evaluate(self, version: ModelVersion, predictions: Sequence[tuple[bytes, bytes]]) -> Evaluation | None:
        """The metrics of predictions, pairs of prediction and label (JSON texts); None if the model is unknown.

        Raises:
            EvaluationError: the metrics are undefined for these predictions.
        """

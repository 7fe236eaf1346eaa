"""Metrics of live predictions for the label joiner, by the models' own code, which `monitoring` does not import."""

import warnings
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from inflight.adapters.version_classes import VersionClasses
from machine_learning_engineering.core.error_text import describe_origin
from machine_learning_engineering.core.faults import is_machine_fault
from machine_learning_engineering.core.json_values import decode_as
from machine_learning_engineering.core.validation import redact_decoder_message
from machine_learning_engineering.events.schemas import LiveMetric
from machine_learning_engineering.registry.manifest import RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.sdk import MLEModel
from machine_learning_engineering.settings import KernelSettings
from monitoring.model_version import ModelVersion
from monitoring.quality.evaluation import Evaluation, EvaluationError


class RegistryEvaluator:
    """Computes metrics with the classes of the models; the registry has the values measured at training."""

    def __init__(self, settings: KernelSettings) -> None:
        self._registry = Registry(settings.registry_dir)
        self._classes = VersionClasses(self._registry)
        self._seed = settings.seed
        self._recorded: dict[ModelVersion, dict[str, float]] = {}

    def rejection_reason(self, model: str, label: bytes) -> str | None:
        """See `monitoring.quality.evaluation.Evaluator`."""
        if (cls := self._classes.of(model)) is None:
            return None
        try:
            decode_as(label, cls.Label)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            # Without the label's value, which may be personal: the reason goes into a dead letter.
            why = redact_decoder_message(error) if isinstance(error, msgspec.MsgspecError) else type(error).__name__
            return f"no label of {model}: {why}"
        return None

    def evaluate(self, version: ModelVersion, predictions: Sequence[tuple[bytes, bytes]]) -> Evaluation | None:
        """See `monitoring.quality.evaluation.Evaluator`. Predictions that do not fit the current schema are skipped."""
        from machine_learning_engineering.evaluation.estimates import CONFIDENCE, bootstrap_estimate

        if (cls := self._classes.of(version.model, version.version)) is None:
            return None
        model = cls()
        model.version = version.version
        decoded, labels = _decoded(model, predictions)
        if len(labels) < 2:
            raise EvaluationError(f"{len(predictions)} predictions, {len(labels)} of which the model can read")
        try:
            with warnings.catch_warnings():
                # scikit-learn warns if a metric is undefined and returns NaN.
                warnings.simplefilter("ignore")
                names = model.evaluate(decoded, labels).keys()
                estimates = bootstrap_estimate(model, decoded, labels, self._seed)
        except Exception as error:  # A model's own metrics may raise anything; the other models are measured.
            if is_machine_fault(error):
                raise
            # Its message may quote a value.
            raise EvaluationError(f"the model's evaluate() raises {describe_origin(error)}") from error
        if not estimates:
            raise EvaluationError(f"no metric is defined for {len(labels)} predictions: {', '.join(sorted(names))}")
        recorded = self._reference(version)
        metrics = [
            LiveMetric(name, one.mean, one.low, one.high, recorded.get(name, UNSET))
            for name, one in sorted(estimates.items())
        ]
        undefined = tuple(sorted({cls.primary_metric, *names} - estimates.keys()))
        return Evaluation(metrics, cls.primary_metric, len(labels), CONFIDENCE, undefined)

    def _reference(self, version: ModelVersion) -> dict[str, float]:
        """The metrics on held-out rows at training; empty if the version is not in the registry."""
        if version not in self._recorded:
            try:
                self._recorded[version] = self._registry.manifest(*version).metrics
            except (RegistryError, OSError):
                return {}
        return self._recorded[version]


def _decoded(model: MLEModel, pairs: Sequence[tuple[bytes, bytes]]) -> tuple[list[Any], list[Any]]:
    prediction_of = msgspec.json.Decoder(model.Prediction).decode
    predictions, labels = [], []
    for prediction, label in pairs:
        try:
            decoded = prediction_of(prediction), decode_as(label, model.Label)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        predictions.append(decoded[0])
        labels.append(decoded[1])
    return predictions, labels

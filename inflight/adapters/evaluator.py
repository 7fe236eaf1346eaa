"""The models' own opinion of labels and of live answers, for the joiner: `monitoring` knows nothing of models."""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from inflight.adapters.models import known_models
from machine_learning_engineering.events.schemas import LiveMetric
from machine_learning_engineering.registry.manifest import RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.sdk import MLEModel
from machine_learning_engineering.settings import KernelSettings
from monitoring.labels.store import Version
from monitoring.quality.evaluation import Evaluation, EvaluationError


class RegistryEvaluator:
    """Judges by the classes of the models, and by what the registry recorded of a version when it was trained."""

    def __init__(self, settings: KernelSettings) -> None:
        self._classes = known_models()
        self._registry = Registry(settings.registry_dir)
        self._seed = settings.seed
        self._labels = {name: msgspec.json.Decoder(cls.Label) for name, cls in self._classes.items()}
        self._recorded: dict[Version, dict[str, float]] = {}

    def refusal(self, model: str, label: bytes) -> str | None:
        """See `monitoring.quality.evaluation.Evaluator`."""
        decoder = self._labels.get(model)
        if decoder is None:
            return None
        try:
            decoder.decode(label)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            return f"no label of {model}: {error}"
        return None

    def judge(self, version: Version, answers: Sequence[tuple[bytes, bytes]]) -> Evaluation | None:
        """See `monitoring.quality.evaluation.Evaluator`. Answers that do not fit the model's schema any more are left out."""
        from machine_learning_engineering.evaluation.estimates import CONFIDENCE, bootstrap_estimate

        if (cls := self._classes.get(version.model)) is None:
            return None
        model = cls()
        model.version = version.version
        predictions, labels = _decoded(model, answers)
        if len(labels) < 2:
            raise EvaluationError(f"{len(answers)} answers, {len(labels)} of which the model can read")
        try:
            with warnings.catch_warnings():
                # scikit-learn warns where a metric is not defined, and gives NaN, which is an error here.
                warnings.simplefilter("ignore")
                estimates = bootstrap_estimate(model, predictions, labels, self._seed)
        except Exception as error:  # Whatever a model's own metrics raise, the others go on being measured.
            raise EvaluationError(f"{type(error).__name__}: {error}") from error
        if bad := sorted(name for name, found in estimates.items() if not math.isfinite(found.low + found.high)):
            # JSON has no word for it.
            raise EvaluationError(f"the interval of {', '.join(bad)} is not finite")
        recorded = self._reference(version)
        metrics = [
            LiveMetric(name, found.mean, found.low, found.high, _reference(recorded, name))
            for name, found in sorted(estimates.items())
        ]
        return Evaluation(metrics, cls.primary_metric, len(labels), CONFIDENCE)

    def _reference(self, version: Version) -> dict[str, float]:
        """The metrics on held-out rows when the version was trained; none if it is not in the registry (any more)."""
        if version not in self._recorded:
            try:
                self._recorded[version] = self._registry.manifest(*version).metrics
            except RegistryError:
                return {}
        return self._recorded[version]


def _decoded(model: MLEModel, answers: Sequence[tuple[bytes, bytes]]) -> tuple[list[Any], list[Any]]:
    prediction_of = msgspec.json.Decoder(model.Prediction).decode
    label_of = msgspec.json.Decoder(model.Label).decode
    predictions, labels = [], []
    for prediction, label in answers:
        try:
            pair = prediction_of(prediction), label_of(label)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
        predictions.append(pair[0])
        labels.append(pair[1])
    return predictions, labels


def _reference(recorded: dict[str, float], name: str) -> float | UnsetType:
    return recorded.get(name, UNSET)

"""A champion of noisy rows, the log of its answers, and labels for them."""

import numpy as np
import pytest

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.training.quick import train


@pytest.fixture
def some():
    """`some(count, seed, factor=2.0, scale=1.0)`: rows with noise; a label is about `factor` times the number."""

    def rows(count, seed, factor=2.0, scale=1.0):
        random = np.random.default_rng(seed)
        numbers, noise = random.uniform(0, 50, count), random.normal(0, 3, count)
        return [
            Example({"number": float(n) * scale}, float(factor * n + e)) for n, e in zip(numbers, noise, strict=True)
        ]

    return rows


@pytest.fixture(autouse=True)
def quick_metric(doubler_class, monkeypatch):
    """A test of a metric evaluates it thousands of times."""

    def evaluate(self, predictions, labels):
        labels = np.array(labels)
        errors = np.array([prediction.double for prediction in predictions]) - labels
        return {"r2": float(1 - (errors**2).sum() / ((labels - labels.mean()) ** 2).sum())}

    monkeypatch.setattr(doubler_class, "evaluate", evaluate)


@pytest.fixture
def registry(some, doubler_class, settings) -> Registry:
    """With v1 as the champion."""
    train(doubler_class, settings, examples=some(1_000, seed=1))
    return Registry(settings.registry_dir)


@pytest.fixture
def log(tmp_path):
    with SqlitePredictionLog(tmp_path / "log.sqlite") as opened:
        yield opened


@pytest.fixture
def serve(some, registry, log, doubler_class):
    """`serve(*arguments)`: the champion answers `some(*arguments)`; gives their labels by request id."""

    def answer(*arguments, **options):
        examples = some(*arguments, **options)
        model = registry.open("doubler", model_class=doubler_class)
        answers = model.predict_with_logging([example.features for example in examples], log).outcomes
        return {one.request_id: example.label for one, example in zip(answers, examples, strict=True)}

    return answer

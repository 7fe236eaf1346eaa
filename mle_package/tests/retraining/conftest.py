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


@pytest.fixture
def outgrown(some, tree_class, settings, log):
    """A champion of numbers up to 25 that serves numbers up to 50; gives the labels by request id, and fresh examples.

    It is right about what it was trained on and wrong beyond, so that a version can be better without being worse.
    """
    small = [one for one in some(2_000, seed=1) if one.features["number"] < 25]
    train(tree_class, settings, examples=small)
    model = Registry(settings.registry_dir).open("doubler", model_class=tree_class)
    served = some(600, seed=2)
    answers = model.predict_with_logging([example.features for example in served], log).outcomes
    labels = {one.request_id: example.label for one, example in zip(answers, served, strict=True)}
    return labels, some(6_000, seed=3)


@pytest.fixture
def tree_class(doubler_class):
    class Tree(doubler_class):
        trusted_types = frozenset({"sklearn.tree._tree.Tree"})

        def new_estimator(self, seed):
            from sklearn.tree import DecisionTreeRegressor

            return DecisionTreeRegressor(min_samples_leaf=40, random_state=seed)

    return Tree

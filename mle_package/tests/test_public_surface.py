"""The public surface of the SDK: its names, and what importing them costs."""

import subprocess
import sys

import pytest

import machine_learning_engineering

NAMES = [
    "Candidate",
    "Example",
    "InvalidFeatures",
    "KernelSettings",
    "MLEModel",
    "PredictionLog",
    "Registry",
    "SqlitePredictionLog",
    "check_model",
    "parametrize_with_checks",
    "run_training",
    "train",
    "trigger_retraining",
]
HEAVY = ["sklearn", "scipy", "pandas", "pyarrow", "optuna", "skops", "confluent_kafka", "kafka", "faust"]


def test_the_public_names() -> None:
    """A change of this list is a change of the interface."""
    assert sorted(machine_learning_engineering.__all__) == NAMES
    assert machine_learning_engineering.__version__


@pytest.mark.parametrize("name", NAMES)
def test_each_name_resolves(name: str) -> None:
    """To an object that its own module calls by that name."""
    assert getattr(machine_learning_engineering, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        machine_learning_engineering.Nothing  # noqa: B018


def test_the_model_class_loads_no_heavy_library() -> None:
    """Neither a numeric library beyond NumPy nor a Kafka client."""
    code = (
        "import sys; from machine_learning_engineering import Example, InvalidFeatures, MLEModel; "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

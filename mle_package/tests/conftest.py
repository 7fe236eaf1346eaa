"""A very basic valid model: one number in, its double out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pytest

from machine_learning_engineering.core.candidate import Candidate
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.evaluation.metrics import regression_metrics
from machine_learning_engineering.sdk import MLEModel
from machine_learning_engineering.settings import KernelSettings

with suppress(ImportError):
    import hypothesis

    # Over what else is set: how long an example takes is the machine's affair.
    _patient = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
    hypothesis.settings.register_profile("patient-mle", _patient)
    hypothesis.settings.load_profile("patient-mle")


class NumberFeatures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: Annotated[float, msgspec.Meta(ge=0, le=100)]
    unit: Literal["m", "km"] = "m"
    count: Annotated[int, msgspec.Meta(ge=0, le=9)] | None = None
    note: Annotated[str, msgspec.Meta(max_length=5)] | None = None


class NumberPrediction(msgspec.Struct, frozen=True):
    double: float


class Doubler(MLEModel):
    name = "doubler"
    Features = NumberFeatures
    Prediction = NumberPrediction
    primary_metric = "r2"

    @classmethod
    def examples(cls, data_dir: Path | None = None) -> Iterator[Example]:
        return (Example({"number": float(number)}, 2.0 * number) for number in range(50))

    def new_estimator(self, seed: int) -> Any:
        from sklearn.linear_model import LinearRegression

        return LinearRegression()

    def build_inputs(self, rows: Sequence[NumberFeatures]) -> Any:
        return np.array([[row.number] for row in rows], dtype=np.float64).reshape(len(rows), 1)

    def predict(self, rows: Sequence[NumberFeatures]) -> Sequence[NumberPrediction]:
        if not rows:
            return []
        return [NumberPrediction(double) for double in self.estimator.predict(self.build_inputs(rows)).tolist()]

    def evaluate(self, predictions: Sequence[NumberPrediction], labels: Sequence[float]) -> Mapping[str, float]:
        return regression_metrics([prediction.double for prediction in predictions], labels)


@pytest.fixture(scope="session")
def doubler_class() -> type[MLEModel]:
    return Doubler


@pytest.fixture
def doubler() -> MLEModel:
    """Fitted on its examples."""
    model = Doubler()
    examples = list(model.examples())
    rows = [model.decode(msgspec.json.encode(example.features)) for example in examples]
    model.fit(rows, [example.label for example in examples], seed=1)
    return model


@pytest.fixture
def settings(tmp_path: Path) -> KernelSettings:
    return KernelSettings(home=tmp_path, _env_file=None)


# --- a comparison of candidates ------------------------------------------------------------------------------------


def mean(params: Mapping[str, Any], seed: int) -> Any:
    from sklearn.dummy import DummyRegressor

    return DummyRegressor()


def ridge(params: Mapping[str, Any], seed: int) -> Any:
    from sklearn.linear_model import Ridge

    return Ridge(alpha=params["alpha"], random_state=seed)


MEAN = Candidate("mean", mean)
RIDGE = Candidate(
    "ridge", ridge, {"alpha": 1e6}, lambda trial: {"alpha": trial.suggest_float("alpha", 1e-3, 1e3, log=True)}, trials=4
)


@pytest.fixture
def compared_class(doubler_class: type[MLEModel]) -> type[MLEModel]:
    """The basic model with two candidates, of which the second has a search."""

    class Compared(doubler_class):  # type: ignore[misc, valid-type]
        compared = (MEAN, RIDGE)

        def candidates(self) -> Sequence[Candidate]:
            return self.compared

    return Compared


@pytest.fixture
def one_of_a_kind(compared_class: type[MLEModel]) -> Any:
    """A class like `compared_class` with other candidates."""
    return lambda *candidates: type("Other", (compared_class,), {"compared": candidates})

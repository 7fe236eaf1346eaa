"""`Line`, a small model for tests of the commands, and the commands run in this process."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from typer.testing import CliRunner

from inflight.cli import app
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.sdk import MLEModel


class Number(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: float


class Answer(msgspec.Struct, frozen=True):
    answer: float


class Line(MLEModel):
    name = "line"
    Features = Number
    Prediction = Answer
    primary_metric = "r2"

    @classmethod
    def examples(cls, data_dir: Path | None = None) -> Iterator[Example]:
        return iter(some(factor=2.0))

    def new_estimator(self, seed: int) -> Any:
        from sklearn.linear_model import LinearRegression

        return LinearRegression()

    def build_inputs(self, rows: Sequence[Number]) -> Any:
        return np.array([[row.number] for row in rows])

    def predict(self, rows: Sequence[Number]) -> Sequence[Answer]:
        return [Answer(value) for value in self.estimator.predict(self.build_inputs(rows)).tolist()]

    def evaluate(self, predictions: Sequence[Answer], labels: Sequence[float]) -> Mapping[str, float]:
        true = np.array(labels)
        errors = np.array([prediction.answer for prediction in predictions]) - true
        return {"r2": float(1 - (errors**2).mean() / true.var()), "mae": float(abs(errors).mean())}


def some(factor: float, count: int = 600, seed: int = 1) -> list[Example]:
    random = np.random.default_rng(seed)
    return [Example({"number": n}, factor * n + random.normal()) for n in random.uniform(1, 10, count).tolist()]


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def run_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))

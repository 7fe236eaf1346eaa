"""`Faulty`, a model whose versions differ in one thing: v2 does what a number asks for, if it is below zero."""

import os
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from sklearn.linear_model import LinearRegression

from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.sdk import MLEModel

RAISE, NAN, UNENCODABLE, EXIT, HANG, ALLOCATE, PRINT = (-1.0, -2.0, -3.0, -4.0, -5.0, -6.0, -7.0)


class Number(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: float
    customer: str = ""


class Answer(msgspec.Struct, frozen=True):
    answer: float


class Faulty(MLEModel):
    """Doubles as v1, triples as v2."""

    name = "line"
    Features = Number
    Prediction = Answer
    primary_metric = "r2"

    def predict(self, rows: Sequence[Number]) -> Sequence[Answer]:
        inputs = np.array([[row.number] for row in rows])
        answers: list[Any] = [Answer(value) for value in self.estimator.predict(inputs).tolist()]
        if self.version != "v2":
            return answers
        for number, row in enumerate(rows):
            if row.number == RAISE:
                raise RuntimeError("a secret of a customer")
            if row.number == NAN:
                answers[number] = Answer(float("nan"))
            if row.number == UNENCODABLE:
                answers[number] = object()
            if row.number == EXIT:
                os._exit(1)
            if row.number == HANG:
                time.sleep(3_600)
            if row.number == ALLOCATE:
                held = np.ones(1 << 29)
                time.sleep(3_600 + held[0])
            if row.number == PRINT:
                os.write(1, b"what is no answer" * 100)
                os.write(2, b"what is no answer" * 100)
        return answers


def save(registry: Registry, *factors: float) -> None:
    """Save a version for each factor; the first becomes the champion."""
    for factor in factors:
        model = Faulty()
        rows = np.array([[1.0], [2.0]])
        model.estimator = LinearRegression(fit_intercept=False).fit(rows, factor * rows[:, 0])
        registry.save(model, metrics={"r2": 0.9}, training_data_sha256="", seed=1)
    registry.promote("line", "v1")

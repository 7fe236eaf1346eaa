"""A basic valid model, and models each of which fails exactly one contract check."""

import json
import math
import threading
import time
from itertools import count
from typing import ClassVar

import msgspec
import numpy as np

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.evaluation.metrics import regression_metrics
from machine_learning_engineering.sdk import MLEModel


class LengthFeatures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A required number, one that may be missing, and one with a default."""

    metres: float
    count: int | None = None
    tags: list[str] = []


class LengthPrediction(msgspec.Struct, frozen=True):
    feet: float


class Length(MLEModel):
    """A very basic valid model."""

    name = "length"
    Features = LengthFeatures
    Prediction = LengthPrediction
    primary_metric = "r2"

    @classmethod
    def examples(cls, data_dir=None):
        return (Example({"metres": n / 2, "count": n, "tags": ["a"]}, n * 1.5) for n in range(40))

    def new_estimator(self, seed):
        from sklearn.linear_model import LinearRegression

        return LinearRegression()

    def build_inputs(self, rows):
        return np.array([[row.metres] for row in rows], dtype=np.float64).reshape(len(rows), 1)

    def predict(self, rows):
        return [self.Prediction(feet) for feet in self.feet(rows)]

    def feet(self, rows):
        return self.estimator.predict(self.build_inputs(rows)).tolist() if rows else []

    def evaluate(self, predictions, labels):
        return regression_metrics([prediction.feet for prediction in predictions], labels)


class Unfinished(Length):
    evaluate = MLEModel.evaluate


class BadlyNamed(Length):
    name = "Length in feet"


class Thawed(Length):
    class Prediction(msgspec.Struct):
        feet: float


class StrangeExamples(Length):
    @classmethod
    def examples(cls, data_dir=None):
        yield from super().examples()
        yield Example({"metres": "far"}, 1.0)


class Lenient(Length):
    class Features(msgspec.Struct, frozen=True):
        metres: float
        count: int | None = None
        tags: list[str] = []


class NeedsTheOptional(Length):
    def predict(self, rows):
        return [self.Prediction(feet + 0 * row.count) for feet, row in zip(self.feet(rows), rows, strict=True)]


class DropsTheIncomplete(Length):
    def predict(self, rows):
        return super().predict([row for row in rows if row.count is not None])


class NaNForTheIncomplete(Length):
    def feet(self, rows):
        return [math.nan if row.count is None else feet for feet, row in zip(super().feet(rows), rows, strict=True)]


class Converting(Length):
    def decode(self, raw):
        try:
            return msgspec.json.decode(raw, type=self.Features, strict=False)
        except msgspec.MsgspecError:
            return super().decode(raw)


class TakesNaN(Length):
    def decode(self, raw):
        try:
            return msgspec.convert(json.loads(bytes(raw)), self.Features)
        except ValueError:
            return super().decode(raw)


class Counting(Length):
    calls = count()

    def decode(self, raw):
        return msgspec.structs.replace(super().decode(raw), tags=[str(next(self.calls))])


class OtherType(Length):
    class Other(msgspec.Struct, frozen=True):
        feet: float

    def predict(self, rows):
        return [self.Other(feet) for feet in self.feet(rows)]


class Nesting(Length):
    def predict(self, rows):
        return [self.Prediction([feet]) for feet in self.feet(rows)]

    def evaluate(self, predictions, labels):
        return regression_metrics([prediction.feet[0] for prediction in predictions], labels)


class Telling(Length):
    def predict(self, rows):
        return [self.Prediction(f"{feet:.6f}") for feet in self.feet(rows)]

    def evaluate(self, predictions, labels):
        return regression_metrics([float(prediction.feet) for prediction in predictions], labels)


class NeverEmpty(Length):
    def feet(self, rows):
        return self.estimator.predict(self.build_inputs(rows)).tolist()


class Centred(Length):
    def feet(self, rows):
        feet = super().feet(rows)
        return [one - sum(feet) / len(feet) for one in feet]


class NothingForOne(Length):
    def feet(self, rows):
        return [] if len(rows) == 1 else super().feet(rows)


class TwoForOne(Length):
    def feet(self, rows):
        return super().feet(rows) * (2 if len(rows) == 1 else 1)


class Sorting(Length):
    def feet(self, rows):
        return sorted(super().feet(rows))


class Consuming(Length):
    def predict(self, rows):
        answers = super().predict(rows)
        rows.clear()
        return answers


class Scribbling(Length):
    def predict(self, rows):
        answers = super().predict(rows)
        for row in rows:
            row.tags.append("seen")
        return answers


class Sharing(Length):
    def predict(self, rows):
        self.current = rows
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.002)  # makes the race that is there in any case a sure one
        return super().predict(self.current)


class Infinite(Length):
    class Prediction(msgspec.Struct, frozen=True):
        feet: float
        margin: float = float("inf")


class Unseeded(Length):
    fits: ClassVar = count()

    def fit(self, rows, labels, *, seed):
        super().fit(rows, labels, seed=seed)
        self.estimator.intercept_ += next(self.fits)


class Forgetful(Length):
    offset = 0.0

    def fit(self, rows, labels, *, seed):
        super().fit(rows, labels, seed=seed)
        self.offset = float(np.mean(labels))

    def feet(self, rows):
        return [feet + self.offset for feet in super().feet(rows)]


OFFSETS = {}


class ForgetfulModule(Length):
    def fit(self, rows, labels, *, seed):
        super().fit(rows, labels, seed=seed)
        OFFSETS["mean"] = float(np.mean(labels))

    def feet(self, rows):
        return [feet + OFFSETS["mean"] for feet in super().feet(rows)]


class ForgetfulClass(Length):
    offset = None

    def fit(self, rows, labels, *, seed):
        super().fit(rows, labels, seed=seed)
        type(self).offset = float(np.mean(labels))

    def feet(self, rows):
        return [feet + self.offset for feet in super().feet(rows)]


class Marking(Length):
    """Like `ForgetfulClass`, but each fit leaves the same."""

    fitted = False

    def fit(self, rows, labels, *, seed):
        super().fit(rows, labels, seed=seed)
        type(self).fitted = True

    def feet(self, rows):
        if not self.fitted:
            raise RuntimeError("nobody has fitted me")
        return super().feet(rows)


class Defaulting(Marking):
    def feet(self, rows):
        return Length.feet(self, rows) if self.fitted else [0.0] * len(rows)


class Unmeasured(Length):
    primary_metric = "accuracy"

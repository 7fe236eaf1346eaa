"""The Titanic model: a linear model or trees on the data of a passenger."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from machine_learning_engineering import Candidate, Example, MLEModel
from machine_learning_engineering.evaluation.metrics import classification_metrics
from model.titanic import candidates, dataset, features
from model.titanic.features import PassengerFeatures, SurvivalPrediction


class Titanic(MLEModel):
    """Whether a passenger survived, with the probability."""

    name = "titanic"
    Features = PassengerFeatures
    Prediction = SurvivalPrediction
    primary_metric = "roc_auc"
    dataset_sha256 = dataset.DATASET.sha256
    Label = bool
    label_name = "survived"
    prediction_name = "survival"
    feature_names_in = features.INPUTS
    # Arrays and numbers only.
    trusted_types = frozenset(
        {
            "model.titanic.preprocessing.Encoder",
            "machine_learning_engineering.estimators.empty_columns.TolerantBoostingClassifier",
            "machine_learning_engineering.estimators.rowwise.RowwiseLogisticRegression",
            "sklearn.tree._tree.Tree",
        }
    )

    @classmethod
    def examples(cls, data_dir: Path | None = None) -> Iterator[Example]:
        return dataset.examples(data_dir)

    def new_estimator(self, seed: int) -> Any:
        # The best candidate in cross-validation.
        return candidates.CANDIDATES[0].estimator(None, seed)

    def candidates(self) -> Sequence[Candidate]:
        return candidates.CANDIDATES

    @classmethod
    def example_from_csv_row(cls, line: Mapping[str, str]) -> Example:
        return dataset.example(line) if "Pclass" in line else super().example_from_csv_row(line)

    def build_inputs(self, rows: Sequence[PassengerFeatures]) -> NDArray[np.float64]:
        return features.build_inputs(rows)

    def predict(self, rows: Sequence[PassengerFeatures]) -> Sequence[SurvivalPrediction]:
        if not rows:
            return []
        probabilities = self.estimator.predict_proba(features.build_inputs(rows))[:, 1].tolist()
        return [SurvivalPrediction(probability >= 0.5, probability) for probability in probabilities]

    def evaluate(self, predictions: Sequence[SurvivalPrediction], labels: Sequence[bool]) -> Mapping[str, float]:
        return classification_metrics([prediction.probability for prediction in predictions], labels)

"""The Titanic model: gradient boosted trees, which take missing values as they are."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from machine_learning_engineering.metrics import classification_metrics
from machine_learning_engineering.model import Example, MLEModel
from model.titanic import dataset, features
from model.titanic.features import PassengerFeatures, SurvivalPrediction


class Titanic(MLEModel):
    """Whether a passenger survived, and how probable that is."""

    name = "titanic"
    Features = PassengerFeatures
    Prediction = SurvivalPrediction
    primary_metric = "roc_auc"
    dataset_sha256 = dataset.DATASET.sha256

    @classmethod
    def examples(cls, data_dir: Path | None = None) -> Iterator[Example]:
        return dataset.examples(data_dir)

    def new_estimator(self, seed: int) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier

        # Few rows: small trees, slowly.
        return HistGradientBoostingClassifier(
            max_iter=100, max_leaf_nodes=8, learning_rate=0.05, early_stopping=False, random_state=seed
        )

    def columns(self, rows: Sequence[PassengerFeatures]) -> NDArray[np.float64]:
        return features.columns(rows)

    def predict(self, rows: Sequence[PassengerFeatures]) -> Sequence[SurvivalPrediction]:
        if not rows:
            return []
        probabilities = self.estimator.predict_proba(features.columns(rows))[:, 1].tolist()
        return [SurvivalPrediction(probability >= 0.5, probability) for probability in probabilities]

    def evaluate(self, predictions: Sequence[SurvivalPrediction], labels: Sequence[bool]) -> Mapping[str, float]:
        return classification_metrics([prediction.probability for prediction in predictions], labels)

"""The diamonds model: gradient boosted trees on ranks and measures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from machine_learning_engineering.metrics import regression_metrics
from machine_learning_engineering.model import Example, MLEModel
from model.diamonds import dataset, features
from model.diamonds.features import DiamondFeatures, DiamondPrediction


class Diamonds(MLEModel):
    """Price in US dollars."""

    name = "diamonds"
    Features = DiamondFeatures
    Prediction = DiamondPrediction
    primary_metric = "r2"
    dataset_sha256 = dataset.DATASET.sha256

    @classmethod
    def examples(cls, data_dir: Path | None = None) -> Iterator[Example]:
        return dataset.examples(data_dir)

    def new_estimator(self, seed: int) -> Any:
        from sklearn.ensemble import HistGradientBoostingRegressor

        # The error of a price grows with the price: the gamma loss weighs errors relatively, and its log link keeps
        # every predicted price above 0.
        return HistGradientBoostingRegressor(
            loss="gamma", max_iter=100, max_leaf_nodes=63, learning_rate=0.15, early_stopping=False, random_state=seed
        )

    def columns(self, rows: Sequence[DiamondFeatures]) -> NDArray[np.float64]:
        return features.columns(rows)

    def predict(self, rows: Sequence[DiamondFeatures]) -> Sequence[DiamondPrediction]:
        if not rows:
            return []
        return [DiamondPrediction(price) for price in self.estimator.predict(features.columns(rows)).tolist()]

    def evaluate(self, predictions: Sequence[DiamondPrediction], labels: Sequence[float]) -> Mapping[str, float]:
        return regression_metrics([prediction.price for prediction in predictions], labels)

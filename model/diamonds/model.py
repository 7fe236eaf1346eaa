"""The diamonds model: trees, or a linear model, on ranks and measures."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from machine_learning_engineering import Candidate, Example, MLEModel
from machine_learning_engineering.evaluation.metrics import regression_metrics
from model.diamonds import candidates, dataset, features
from model.diamonds.features import DiamondFeatures, DiamondPrediction


class Diamonds(MLEModel):
    """Price in US dollars."""

    name = "diamonds"
    Features = DiamondFeatures
    Prediction = DiamondPrediction
    primary_metric = "r2"
    dataset_sha256 = dataset.DATASET.sha256
    Label = features.Price
    label_name = "price"
    prediction_name = "value"
    similar_by = ("cut", "color", "clarity")
    nearest = "carat"
    feature_names_in = features.INPUTS
    # Own arrays and numbers, and XGBoost's trees, which its own parser reads: docs/decisions/0004-training.md.
    trusted_types = frozenset(
        {
            "model.diamonds.preprocessing.LogTerms",
            "machine_learning_engineering.estimators.empty_columns.TolerantBoostingRegressor",
            "machine_learning_engineering.estimators.rowwise.RowwiseRidge",
            "xgboost.core.Booster",
            "xgboost.sklearn.XGBRegressor",
        }
    )

    @classmethod
    def examples(cls, data_dir: Path | None = None) -> Iterator[Example]:
        return dataset.examples(data_dir)

    def new_estimator(self, seed: int) -> Any:
        return candidates.BY_NAME["gradient-boosting"].estimator(None, seed)

    def candidates(self) -> Sequence[Candidate]:
        return candidates.CANDIDATES

    def build_inputs(self, rows: Sequence[DiamondFeatures]) -> NDArray[np.float64]:
        return features.build_inputs(rows)

    def predict(self, rows: Sequence[DiamondFeatures]) -> Sequence[DiamondPrediction]:
        if not rows:
            return []
        return [DiamondPrediction(price) for price in self.estimator.predict(features.build_inputs(rows)).tolist()]

    def evaluate(self, predictions: Sequence[DiamondPrediction], labels: Sequence[float]) -> Mapping[str, float]:
        return regression_metrics([prediction.price for prediction in predictions], labels)

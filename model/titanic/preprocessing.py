"""Inputs of a linear model: standardized numbers and one-hot categories."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from machine_learning_engineering.estimators.empty_columns import fill_empty_columns

# A missing category is a category of its own.
_MISSING = -1.0


class Encoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Standardizes numbers, with their mean for missing ones, and one-hot encodes categories.

    Equivalent to `SimpleImputer`, `StandardScaler` and `OneHotEncoder` in a `ColumnTransformer`, in a twentieth of the
    time for a single row. An unseen category is 0 in all columns.

    Args:
        numbers: Column indices of numbers.
        categories: Column indices of categories.
    """

    def __init__(self, numbers: Sequence[int], categories: Sequence[int]) -> None:
        self.numbers = numbers
        self.categories = categories

    def fit(self, inputs: NDArray[np.float64], labels: Any = None) -> Self:
        """Learn means, scales and categories."""
        # A number that no row has tells nothing: it is 0 in all rows.
        numbers = fill_empty_columns(inputs[:, list(self.numbers)])
        self.means_ = np.nanmean(numbers, axis=0)
        self.scales_ = np.where(np.isnan(numbers), self.means_, numbers).std(axis=0)
        self.scales_[self.scales_ == 0] = 1.0
        values = [np.unique(np.nan_to_num(inputs[:, column], nan=_MISSING)) for column in self.categories]
        self.values_ = np.concatenate(values)
        self.columns_ = np.repeat(list(self.categories), [len(found) for found in values])
        return self

    def transform(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Inputs of shape (rows, numbers + values of all categories)."""
        numbers = inputs[:, list(self.numbers)]
        numbers = (np.where(np.isnan(numbers), self.means_, numbers) - self.means_) / self.scales_
        categories = np.nan_to_num(inputs[:, self.columns_], nan=_MISSING)
        return np.hstack([numbers, categories == self.values_])

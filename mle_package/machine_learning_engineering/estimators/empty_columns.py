"""Histogram gradient boosting that can be fitted on columns without any value.

An optional feature may be missing in all rows, or in all rows of a fold. scikit-learn's estimators, which take missing
values otherwise, then fail to bin the column. Here such a column counts as constant while fitting: no tree splits on
it, so predictions do not depend on it.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor


def fill_empty_columns(inputs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inputs with 0 in the columns that are NaN in all rows; the same array if there is none.

    >>> fill_empty_columns(np.array([[1.0, np.nan], [np.nan, np.nan]])).tolist()
    [[1.0, 0.0], [nan, 0.0]]
    """
    empty = np.isnan(inputs).all(axis=0)
    return np.where(empty, 0.0, inputs) if empty.any() else inputs


class TolerantBoostingClassifier(HistGradientBoostingClassifier):  # type: ignore[misc]
    """`HistGradientBoostingClassifier` that accepts columns without any value."""

    def fit(self, X: NDArray[np.float64], y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """See scikit-learn."""
        super().fit(fill_empty_columns(X), y, sample_weight)
        return self


class TolerantBoostingRegressor(HistGradientBoostingRegressor):  # type: ignore[misc]
    """`HistGradientBoostingRegressor` that accepts columns without any value."""

    def fit(self, X: NDArray[np.float64], y: Any, sample_weight: Any = None) -> Self:  # noqa: N803
        """See scikit-learn."""
        super().fit(fill_empty_columns(X), y, sample_weight)
        return self

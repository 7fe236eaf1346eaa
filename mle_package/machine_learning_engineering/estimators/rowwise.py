"""Linear estimators with bit-identical predictions for a row alone and in any batch.

In scikit-learn's matrix products the order of BLAS's sums depends on the number of rows, so the last digit of a
prediction depends on the batch. A request that is scored again after a crash would get another prediction. Here each
row is summed on its own.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge


class RowwiseLogisticRegression(LogisticRegression):  # type: ignore[misc]
    """A binary `LogisticRegression` on dense inputs."""

    def decision_function(self, X: NDArray[np.float64]) -> Any:  # noqa: N803
        """Logit of the second class, shape (rows,)."""
        return _sums(X, self.coef_[0]) + self.intercept_[0]


class RowwiseRidge(Ridge):  # type: ignore[misc]
    """A `Ridge` with one target on dense inputs."""

    def predict(self, X: NDArray[np.float64]) -> Any:  # noqa: N803
        """Predictions of shape (rows,)."""
        return _sums(X, self.coef_) + self.intercept_


def _sums(inputs: NDArray[np.float64], weights: NDArray[np.float64]) -> Any:
    # In C order the innermost loop runs along a row for any number of rows.
    return np.multiply(inputs, weights, order="C").sum(axis=1)

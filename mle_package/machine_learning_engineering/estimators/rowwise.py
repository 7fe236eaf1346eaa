"""Linear estimators that answer a row with the same bits alone and in any batch.

scikit-learn multiplies matrices, and BLAS sums up in an order that depends on the number of rows: the last digit of an
answer depends on whom a request shared its batch with. A request that is answered again after a crash would then get
another answer. Here each row is summed up by itself.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge


class RowwiseLogisticRegression(LogisticRegression):  # type: ignore[misc]
    """A `LogisticRegression` of two classes on dense inputs."""

    def decision_function(self, X: NDArray[np.float64]) -> Any:  # noqa: N803
        """One number a row, greater than 0 for the second class."""
        return _sums(X, self.coef_[0]) + self.intercept_[0]


class RowwiseRidge(Ridge):  # type: ignore[misc]
    """A `Ridge` of one target on dense inputs."""

    def predict(self, X: NDArray[np.float64]) -> Any:  # noqa: N803
        """One number a row."""
        return _sums(X, self.coef_) + self.intercept_


def _sums(inputs: NDArray[np.float64], weights: NDArray[np.float64]) -> Any:
    # In C order the innermost loop goes along a row, whatever the number of rows is.
    return np.multiply(inputs, weights, order="C").sum(axis=1)

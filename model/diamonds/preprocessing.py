"""Terms for a linear model: a diamond's price is nearly a product of powers, so that its logarithm is a sum."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from model.diamonds.features import GRADES, INPUTS

_CARAT = INPUTS.index("carat")
_SHAPE = [INPUTS.index("depth"), INPUTS.index("table")]
_LENGTHS = [INPUTS.index(name) for name in ("x", "y", "z")]


class LogTerms(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Powers of the logarithm of the weight, the shape, and a column for each grade, with its own slope by weight.

    There is nothing to learn from data. An unknown length counts as 1 mm and is marked.
    """

    def fit(self, inputs: NDArray[np.float64], labels: Any = None) -> Self:
        """Learn nothing; `n_features_in_` marks it as fitted."""
        self.n_features_in_ = inputs.shape[1]
        return self

    def transform(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shape (rows, 51)."""
        weight = np.log(inputs[:, [_CARAT]])
        lengths = inputs[:, _LENGTHS]
        grades = np.hstack(
            [inputs[:, [INPUTS.index(name)]] == np.arange(count, dtype=np.float64) for name, count in GRADES.items()]
        )
        return np.hstack(
            [
                weight,
                weight**2,
                weight**3,
                inputs[:, _SHAPE] / 100,
                np.log(np.nan_to_num(lengths, nan=1.0)),
                np.isnan(lengths),
                grades,
                grades * weight,
            ]
        )

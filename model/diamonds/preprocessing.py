"""Terms of a linear model: the price is approximately a product of powers, so its logarithm is a sum."""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from model.diamonds.features import GRADES, INPUTS

_CARAT = INPUTS.index("carat")
_SHAPE = [INPUTS.index("depth"), INPUTS.index("table")]
_LENGTHS = [INPUTS.index(name) for name in ("x", "y", "z")]


class LogTerms(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Powers of the log weight, the shape, and one-hot grades with their interactions with the log weight.

    Nothing is learned from data. An unknown length counts as 1 mm and has an indicator.
    """

    def fit(self, inputs: NDArray[np.float64], labels: Any = None) -> Self:
        """Set `n_features_in_`, which marks the transformer as fitted."""
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

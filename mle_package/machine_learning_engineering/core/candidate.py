"""Candidates: the kinds of estimator that training compares."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

__all__ = ["Candidate"]


@dataclass(frozen=True)
class Candidate:
    """A kind of estimator with its parameters and their search space."""

    name: str
    """Lower-case letters, digits, `-` and `_`, such as ``logistic-regression``."""
    make: Callable[[Mapping[str, Any], int], Any]
    """``make(params, seed)`` returns an unfitted estimator with scikit-learn's `fit` and `predict`. It is deterministic
    and uses one thread."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the candidate. Suggestions of `search` override them."""
    search: "Callable[[optuna.Trial], dict[str, Any]] | None" = None
    """Suggests parameters for a trial; None if there is nothing to search."""
    trials: int = 0
    """Number of trials of a search, unless the training sets a maximum."""

    def estimator(self, params: Mapping[str, Any] | None, seed: int) -> Any:
        """Make an unfitted estimator; `params` override the defaults."""
        return self.make({**self.defaults, **(params or {})}, seed)

"""What a model may be made of: the kinds of estimator that training compares."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

__all__ = ["Candidate"]


@dataclass(frozen=True)
class Candidate:
    """A kind of estimator with its parameters, and how better ones are looked for.

    `make(params, seed)` gives an unfitted estimator with scikit-learn's `fit` and `predict`; the same params and seed
    give the same one, and it uses one thread. `params` are `defaults`, overlaid with what `search` suggested. A search
    without defaults is a candidate whose params all come from it.
    """

    name: str
    """Lower case letters, digits, `-` and `_`, such as ``logistic-regression``."""
    make: Callable[[Mapping[str, Any], int], Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    search: "Callable[[optuna.Trial], dict[str, Any]] | None" = None
    """Suggests params for a trial; None: there is nothing to search."""
    trials: int = 0
    """So many params are tried in a search, unless the person who trains says otherwise."""

    def estimator(self, params: Mapping[str, Any] | None, seed: int) -> Any:
        """A new unfitted estimator; `params` overlay the defaults."""
        return self.make({**self.defaults, **(params or {})}, seed)

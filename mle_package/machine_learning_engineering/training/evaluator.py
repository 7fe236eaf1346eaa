"""Fits of a training: each candidate on folds of the training rows, then on all of them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from machine_learning_engineering.core.model import Model
from machine_learning_engineering.evaluation.estimates import (
    Estimate,
    estimate_from_folds,
    measure,
    naming_candidate,
    rows_per_second,
)
from machine_learning_engineering.evaluation.splits import FEW_ROWS, Fold, cross_validation, folds
from machine_learning_engineering.training.data import TrainTestSplit
from machine_learning_engineering.training.run_log import Trial
from machine_learning_engineering.training.search import Plan, search

_SEARCH_FOLDS = 4


class CandidateEvaluator:
    """Fits and measures the candidates of a model; `done` of `total` fits are done.

    Errors of estimators are raised as `FitFailed` with the name of the candidate. `on_progress` is called with each
    step when it begins.
    """

    def __init__(
        self, model_class: type[Model], parts: TrainTestSplit, plans: Sequence[Plan], on_progress: Callable[[str], None]
    ) -> None:
        self._model_class = model_class
        self._parts = parts
        self._on_step = on_progress
        self._compared = [fold for fold in cross_validation(parts.groups, parts.seed) if self._is_informative(fold)]
        # Not the folds that candidates are compared on. One fold is enough if there are many rows.
        searched = folds(parts.groups, _SEARCH_FOLDS, parts.seed + 1_000)
        searched = [fold for fold in searched if self._is_informative(fold)]
        self._searched = searched[: _SEARCH_FOLDS if len(parts.groups) < FEW_ROWS else 1]
        if len(self._compared) < 2 or not self._searched:
            raise ValueError(
                "the rows are too few to compare candidates: hardly any fold has several labels, both to fit and "
                "to measure on; add examples of the rare labels"
            )
        self.done = 0
        self.total = sum(map(self.fits, plans))

    def fits(self, planned: Plan) -> int:
        """Number of fits that a candidate takes."""
        searched = planned.configurations * len(self._searched) if _is_searched(planned) else 0
        return len(self._compared) + 1 + searched

    def _is_informative(self, fold: Fold) -> bool:
        """Whether both parts of a fold have several labels: with one alone a model can't be fitted, or not measured."""
        labels = self._parts.labels
        return all(any(labels[row] != labels[part[0]] for row in part) for part in fold)

    def search(self, planned: Plan) -> list[Trial]:
        """Search the params of a candidate; return no trials if there is nothing to choose."""
        if not _is_searched(planned):
            return []
        primary = self._model_class.primary_metric

        def scored(params: Mapping[str, Any]) -> float:
            self._on_step(f"searching {planned.candidate.name}")
            scores = [self._score(planned, params, fold) for fold in self._searched]
            return sum(one[primary] for one in scores) / len(scores)

        return search(planned, scored, self._parts.seed)

    def cross_validate(self, planned: Plan, params: Mapping[str, Any]) -> dict[str, Estimate]:
        """Metrics of a candidate over folds."""
        self._on_step(f"cross-validating {planned.candidate.name}")
        return estimate_from_folds([self._score(planned, params, fold) for fold in self._compared])

    def fit(self, planned: Plan, params: Mapping[str, Any]) -> tuple[Model, dict[str, int]]:
        """Fit a candidate on all training rows; return the model and its rows per second by batch size."""
        self._on_step(f"fitting {planned.candidate.name}")
        model = self._model_class()
        with naming_candidate(planned.candidate.name):
            self._fit(planned, params, model, self._parts.rows, self._parts.labels)
            speed = rows_per_second(model, self._parts.rows)
        self.done += 1
        return model, speed

    def _score(self, planned: Plan, params: Mapping[str, Any], fold: Fold) -> dict[str, float]:
        model, parts = self._model_class(), self._parts
        fitting, measuring = (
            ([parts.rows[index] for index in part], [parts.labels[index] for index in part]) for part in fold
        )
        with naming_candidate(planned.candidate.name):
            self._fit(planned, params, model, *fitting)
            found = measure(model, *measuring)
        self.done += 1
        return found

    def _fit(self, planned: Plan, params: Mapping[str, Any], model: Model, rows: list[Any], labels: list[Any]) -> None:
        model.fit(rows, labels, seed=self._parts.seed, candidate=planned.candidate, params=params)


def _is_searched(planned: Plan) -> bool:
    """Whether there are several configurations, or the params must come from the search."""
    return planned.configurations > 1 or not planned.defaults

"""Sharing out configurations, searching, and choosing."""

import pytest

from machine_learning_engineering.core.candidate import Candidate
from machine_learning_engineering.evaluation.estimates import Estimate
from machine_learning_engineering.training.search import best, choose, plan, search


def make(params, seed):
    return (params, seed)


def suggest(trial):
    return {"depth": trial.suggest_int("depth", 1, 9), "rate": trial.suggest_float("rate", 0.1, 1.0)}


LINE = Candidate("line", make)
FOREST = Candidate("forest", make, {"depth": 3}, search=suggest, trials=6)
BOOSTED = Candidate("boosted", make, search=suggest, trials=4)


def shares(*candidates: Candidate, most: int | None = None) -> list[tuple[str, bool, int]]:
    return [(one.candidate.name, one.defaults, one.trials) for one in plan(candidates, most)]


def test_defaults_are_overlaid_by_params():
    assert FOREST.estimator({"rate": 0.5}, 7) == ({"depth": 3, "rate": 0.5}, 7)
    assert FOREST.estimator(None, 7) == ({"depth": 3}, 7)


def test_without_a_limit_each_search_has_its_own_number_of_trials():
    assert shares(LINE, FOREST, BOOSTED) == [("line", True, 0), ("forest", True, 6), ("boosted", False, 4)]


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (1, [("line", True, 0)]),
        (2, [("line", True, 0), ("forest", True, 0)]),
        (3, [("line", True, 0), ("forest", True, 0), ("boosted", False, 1)]),
        (4, [("line", True, 0), ("forest", True, 1), ("boosted", False, 1)]),
        (20, [("line", True, 0), ("forest", True, 9), ("boosted", False, 9)]),
    ],
)
def test_at_most_so_many_configurations_in_all(most, expected):
    assert shares(LINE, FOREST, BOOSTED, most=most) == expected
    assert sum(one.configurations for one in plan([LINE, FOREST, BOOSTED], most)) == most


def test_what_needs_no_search_is_tried_once_however_many_are_allowed():
    assert shares(LINE, most=50) == [("line", True, 0)]


@pytest.mark.parametrize("candidates", [[], [LINE, LINE]])
def test_candidates_have_names_of_their_own(candidates):
    with pytest.raises(ValueError, match="its own name"):
        plan(candidates)


def depth(params) -> float:
    return -abs(params.get("depth", 3) - 7) - params.get("rate", 0.0)


def test_a_search_tries_the_defaults_first_and_the_same_params_each_time():
    pytest.importorskip("optuna")
    [planned] = plan([FOREST])
    trials = search(planned, depth, seed=5)
    assert len(trials) == 7
    assert trials[0].params == {}
    assert trials[0].score == -4
    assert search(planned, depth, seed=5) == trials
    assert search(planned, depth, seed=6) != trials
    assert best(trials).score == max(trial.score for trial in trials)


def test_of_equal_trials_the_earliest_is_best():
    pytest.importorskip("optuna")
    [planned] = plan([FOREST])
    assert best(search(planned, lambda params: 1.0, seed=5)).params == {}


def around(mean: float, error: float = 0.1) -> Estimate:
    return Estimate(mean, mean - 2 * error, mean + 2 * error, error)


@pytest.mark.parametrize(
    ("means", "chosen"),
    [((0.70, 0.80, 0.90), 2), ((0.70, 0.81, 0.90), 1), ((0.80, 0.80, 0.90), 2), ((0.9, 0.9, 0.9), 0), ((0.95, 0.9), 0)],
)
def test_the_simplest_within_one_standard_error_of_the_best_is_chosen(means, chosen):
    index, why = choose("r2", [(f"c{place}", around(mean, 0.099)) for place, mean in enumerate(means)])
    assert index == chosen
    assert why.startswith(f"c{chosen} ")

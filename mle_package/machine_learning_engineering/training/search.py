"""Trying candidates: how many configurations each gets, the search for its params, and which candidate is chosen."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from machine_learning_engineering.core.candidate import Candidate
from machine_learning_engineering.evaluation.estimates import Estimate
from machine_learning_engineering.training.run_log import Trial


class Plan(NamedTuple):
    """How a candidate is tried: with its defaults if it has any or needs none, then with `trials` suggestions."""

    candidate: Candidate
    defaults: bool
    trials: int

    @property
    def configurations(self) -> int:
        """So many settings of params are scored; a single one needs no search."""
        return self.defaults + self.trials


def plan(candidates: Sequence[Candidate], most: int | None = None) -> list[Plan]:
    """Share out configurations.

    Each candidate in turn gets one, and what is left of `most` goes to those with a search, in equal parts. Without
    `most`, each search has the candidate's own number of trials.

    Raises:
        ValueError: there is no candidate, or two have the same name.
    """
    names = [candidate.name for candidate in candidates]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"candidates need to be one at least, each with a name of its own: {', '.join(names) or 'none'}"
        )
    first = [_first(candidate) for candidate in candidates[:most]]
    searching = [index for index, one in enumerate(first) if one.candidate.search is not None]
    for place, index in enumerate(searching):
        if most is None:
            more = max(0, first[index].candidate.trials - first[index].trials)
        else:
            left = most - len(first)
            more = left // len(searching) + (place < left % len(searching))
        first[index] = first[index]._replace(trials=first[index].trials + more)
    return first


def _first(candidate: Candidate) -> Plan:
    needs_search = candidate.search is not None and not candidate.defaults
    return Plan(candidate, defaults=not needs_search, trials=int(needs_search))


def search(
    planned: Plan,
    score: Callable[[Mapping[str, Any]], float],
    seed: int,
    tried: Callable[[], None] = lambda: None,
) -> list[Trial]:
    """Score the defaults and the suggestions of Optuna's TPE sampler, seeded; in the order in which they were tried.

    Args:
        score: of params that overlay the defaults; the greater, the better.
        tried: called after each.
    """
    trials: list[Trial] = []

    def attempt(params: dict[str, Any]) -> float:
        trials.append(Trial(params, score(params)))
        tried()
        return trials[-1].score

    if planned.defaults:
        attempt({})
    suggest = planned.candidate.search
    if planned.trials and suggest is not None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        study.optimize(lambda trial: attempt(suggest(trial)), n_trials=planned.trials)
    return trials


def best(trials: Sequence[Trial]) -> Trial:
    """The trial with the greatest score, the earliest of equals."""
    return max(trials, key=lambda trial: trial.score)


def choose(metric: str, estimates: Sequence[tuple[str, Estimate]]) -> tuple[int, str]:
    """The simplest candidate whose mean is within one standard error of the best mean: its index, and why it is it.

    Args:
        estimates: name and primary metric of each candidate, the simplest first.
    """
    leader = max(range(len(estimates)), key=lambda index: estimates[index][1].mean)
    name, top = estimates[leader]
    floor = top.mean - top.standard_error
    chosen = next(index for index, (_, estimate) in enumerate(estimates) if estimate.mean >= floor)
    if chosen == leader:
        return (
            chosen,
            f"{name} has the best mean {metric}, {top.mean:.5g}, and no simpler candidate is within one standard error",
        )
    simpler, its = estimates[chosen]
    return chosen, (
        f"{simpler} is the simplest candidate within one standard error ({top.standard_error:.2g}) of the best mean "
        f"{metric}: {its.mean:.5g}, while {name} has {top.mean:.5g}"
    )

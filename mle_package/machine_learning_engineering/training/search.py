"""Search and choice of candidates: their share of configurations, the search for params, and the selection rule."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from machine_learning_engineering.core.candidate import Candidate
from machine_learning_engineering.evaluation.estimates import Estimate
from machine_learning_engineering.training.run_log import Trial


class Plan(NamedTuple):
    """Configurations of a candidate: its defaults, unless it needs a search, and `trials` suggestions."""

    candidate: Candidate
    defaults: bool
    trials: int

    @property
    def configurations(self) -> int:
        """Number of configurations that are scored; a single one needs no search."""
        return self.defaults + self.trials


def plan(candidates: Sequence[Candidate], max_configurations: int | None = None) -> list[Plan]:
    """Share configurations among candidates.

    Each candidate gets one, in order; the rest of `max_configurations` goes to those with a search, in equal parts.
    Without a maximum each search has the candidate's own number of trials.

    Raises:
        ValueError: There is no candidate, or two have the same name.
    """
    names = [candidate.name for candidate in candidates]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"at least one candidate is needed, each with its own name: {', '.join(names) or 'none'}")
    first = [_first(candidate) for candidate in candidates[:max_configurations]]
    searching = [index for index, one in enumerate(first) if one.candidate.search is not None]
    for position, index in enumerate(searching):
        if max_configurations is None:
            more = max(0, first[index].candidate.trials - first[index].trials)
        else:
            left = max_configurations - len(first)
            more = left // len(searching) + (position < left % len(searching))
        first[index] = first[index]._replace(trials=first[index].trials + more)
    return first


def _first(candidate: Candidate) -> Plan:
    needs_search = candidate.search is not None and not candidate.defaults
    return Plan(candidate, defaults=not needs_search, trials=int(needs_search))


def search(planned: Plan, score: Callable[[Mapping[str, Any]], float], seed: int) -> list[Trial]:
    """Score the defaults and the suggestions of Optuna's TPE sampler.

    Args:
        score: Returns the score of params that override the defaults; greater is better.
        seed: Seed of the sampler.

    Returns:
        The trials in order.
    """
    trials: list[Trial] = []

    def attempt(params: dict[str, Any]) -> float:
        trials.append(Trial(params, score(params)))
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
    """The first trial with the greatest score."""
    return max(trials, key=lambda trial: trial.score)


def choose(metric: str, estimates: Sequence[tuple[str, Estimate]]) -> tuple[int, str]:
    """Choose by the one-standard-error rule: the simplest candidate within one standard error of the best mean.

    Source: L. Breiman et al., Classification and Regression Trees, 1984 (the "1 SE rule").

    Args:
        estimates: Name and primary metric of each candidate, the simplest first.

    Returns:
        The index of the candidate and the reason for the choice.
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

"""`python -m benchmarks.verdicts`: how often verdicts are wrong, and how many requests they take. Simulated.

Each stream is looked at again and again until a rule decides or the stream ends. Three rules see the same streams: the
tests of `rollout.judging`, a z-test that is looked at in the same way, and a z-test that is made once, after the number
of requests that finds the effect with a probability of 80 %.
"""

import math
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated, NamedTuple

import numpy as np
import typer

from machine_learning_engineering.evaluation.moments import Moments
from machine_learning_engineering.rollout.judging import failing_alpha
from machine_learning_engineering.rollout.policy import RolloutPolicy
from machine_learning_engineering.rollout.statistics.means import arms_excess
from machine_learning_engineering.rollout.statistics.rates import Counted, log_evidence_above, log_evidence_of_excess

PAGE = Path(__file__).parents[1] / "docs" / "rollouts.md"
BEGIN, END = "<!-- simulated: begin -->", "<!-- simulated: end -->"
POLICY = RolloutPolicy()
_Z, _POWER = 1.645, 0.842
_FIRST = 200
"""Requests before the z-test is looked at for the first time; our tests have rules of their own."""

Decided = tuple[int | None, int | None, bool]
"""After how many requests our test decided, and the z-test; whether the single z-test decided."""
Stream = Callable[[np.random.Generator], Decided]


class Row(NamedTuple):
    """What came of the streams of a case."""

    case: str
    unit: str
    ours: list[int | None]
    peeked: list[int | None]
    once: list[bool]
    horizon: int

    def line(self) -> str:
        """A row of the table."""
        found = [_share(self.ours), _share(self.peeked), f"{np.mean(self.once):.1%}"]
        times = [_median(self.ours), _median(self.peeked), f"{self.horizon:,}"]
        return f"| {self.case} | {' | '.join(found)} | {' | '.join(times)} | {self.unit} |"


def _share(times: list[int | None]) -> str:
    return f"{sum(one is not None for one in times) / len(times):.1%}"


def _median(times: list[int | None]) -> str:
    """Over all streams: none if fewer than half of them were decided."""
    middle = median(math.inf if one is None else one for one in times)
    return "-" if math.isinf(middle) else f"{middle:,.0f}"


def _first(mask: np.ndarray) -> int | None:
    """The position, from 1, of the first true value."""
    at = int(mask.argmax())
    return at + 1 if mask[at] else None


def least_wins(pairs: int, alpha: float) -> np.ndarray:
    """For each number of differing pairs up to this one, how many the better version must win."""
    wins, found = 0, np.empty(pairs + 1, int)
    for number in range(pairs + 1):
        wins = max(wins, number // 2)
        while wins <= number and log_evidence_above(wins, number, 0.5) < -math.log(alpha):
            wins += 1
        found[number] = wins
    return found


def shadow(better: float, worse: float, horizon: int, length: int = 10_000) -> Stream:
    """Labelled pairs of a shadow whose losses are 0 or 1: shares of pairs that the challenger wins and loses."""
    needed = least_wins(int(length * (better + worse) * 1.5) + 100, POLICY.alpha)

    def stream(chance: np.random.Generator) -> Decided:
        draws = chance.random(length)
        won = np.cumsum(draws < better)
        lost = np.cumsum((draws >= better) & (draws < better + worse))
        differing = won + lost
        ours = won >= needed[np.minimum(differing, len(needed) - 1)]
        ours[: POLICY.min_labels - 1] = False
        z = (won - lost) / np.sqrt(np.maximum(differing, 1)) > _Z
        once = bool(z[horizon - 1])
        z[: _FIRST - 1] = False
        return _first(ours), _first(z), once

    return stream


def errors(champion: float, challenger: float, share: float, horizon: int, length: int = 30_000) -> Stream:
    """Failures in a canary: rates of both versions, and the challenger's share of the requests."""
    threshold = -math.log(failing_alpha(POLICY))

    def stream(chance: np.random.Generator) -> Decided:
        is_ours = chance.random(length) < share
        failed = chance.random(length) < np.where(is_ours, challenger, champion)
        n, k = np.cumsum(is_ours), np.cumsum(is_ours & failed)
        m, j = np.cumsum(~is_ours), np.cumsum(~is_ours & failed)
        # Evidence jumps where the challenger fails; between two failures it changes little.
        looks = np.flatnonzero((is_ours & failed) | (np.arange(1, length + 1) % 50 == 0))
        ours = None
        for at in looks[n[looks] >= 1]:
            counts = Counted(int(k[at]), int(n[at])), Counted(int(j[at]), int(m[at]))
            if log_evidence_of_excess(*counts, margin=POLICY.max_error_rate) >= threshold:
                ours = int(at) + 1
                break
        with np.errstate(all="ignore"):
            p, q = k / n, j / m
            z = (p - q - POLICY.max_error_rate) / np.sqrt(p * (1 - p) / n + q * (1 - q) / m) > _Z
        once = bool(z[horizon - 1])
        z[: _FIRST - 1] = False
        return ours, _first(z), once

    return stream


def losses(ratio: float, horizon: int, length: int = 20_000) -> Stream:
    """Losses of two arms of equal size with a heavy tail (log-normal, sigma 1), the challenger's mean times `ratio`."""

    def stream(chance: np.random.Generator) -> Decided:
        is_ours = chance.random(length) < 0.5
        values = chance.lognormal(0.0, 1.0, length) * np.where(is_ours, ratio, 1.0)
        sums = [(np.cumsum(arm), np.cumsum(values * arm), np.cumsum(values**2 * arm)) for arm in (is_ours, ~is_ours)]
        looks = range(_FIRST - 1, length, 20)
        ours, peeked, once = None, None, False
        for at in (*looks, horizon - 1):
            arm, other = (_moments(*(one[at] for one in found)) for found in sums)
            excess = arms_excess(arm, other, 0.0)
            error = math.hypot(math.sqrt(arm.variance / arm.count), math.sqrt(other.variance / other.count))
            is_better = other.mean - arm.mean > _Z * error
            if at == horizon - 1:
                once = is_better
            if at not in looks:
                continue
            if ours is None and min(arm.count, other.count) >= POLICY.min_labels and excess is not None:
                ours = at + 1 if excess.upper(POLICY.alpha) < 0 else None
            peeked = at + 1 if peeked is None and is_better else peeked
        return ours, peeked, once

    return stream


def _moments(count: float, total: float, squares: float) -> Moments:
    mean = total / count
    return Moments(int(count), mean, squares - count * mean**2)


def _cases() -> list[tuple[str, str, Stream, int]]:
    """Each with the number of requests after which a single z-test finds the effect in 80 %."""
    pairs = math.ceil(((_Z * math.sqrt(0.08) + _POWER * math.sqrt(0.08 - 0.02**2)) / 0.02) ** 2)
    failures = math.ceil((_Z + _POWER) ** 2 * (0.06 * 0.94 / 0.1 + 0.02 * 0.98 / 0.9) / 0.03**2)
    variance = (math.e - 1) * math.e
    means = math.ceil((_Z + _POWER) ** 2 * 2 * variance * (1 + 0.8**2) / (0.2 * math.exp(0.5)) ** 2)
    return [
        ("shadow, no difference (4 % won, 4 % lost): promoted", "labels", shadow(0.04, 0.04, pairs), pairs),
        ("shadow, better (5 % won, 3 % lost): promoted", "labels", shadow(0.05, 0.03, pairs), pairs),
        (
            "canary of 10 %, no difference (2 % fail): rolled back",
            "requests",
            errors(0.02, 0.02, 0.1, failures),
            failures,
        ),
        (
            "the same at the limit (3 % against 2 %): rolled back",
            "requests",
            errors(0.02, 0.03, 0.1, failures),
            failures,
        ),
        ("the same, worse (6 % against 2 %): rolled back", "requests", errors(0.02, 0.06, 0.1, failures), failures),
        ("canary of 50 %, heavy-tailed losses, no difference: promoted", "labels", losses(1.0, means), means),
        ("the same, mean loss 20 % lower: promoted", "labels", losses(0.8, means), means),
    ]


def simulate(streams: int, seed: int) -> list[Row]:
    """All cases, with this number of streams each."""
    rows = []
    for number, (case, unit, stream, horizon) in enumerate(_cases()):
        decided = [stream(np.random.default_rng((seed, number, one))) for one in range(streams)]
        ours, peeked, once = zip(*decided, strict=True)
        rows.append(Row(case, unit, list(ours), list(peeked), list(once), horizon))
    return rows


def table(rows: list[Row], streams: int, seed: int) -> str:
    """The table of the page."""
    head = (
        f"Each case has {streams:,} streams (seed {seed}). A share is that of the streams that were decided so at any\n"
        "look, a median the number of labels or requests until then; a single z-test is made after the one given.\n\n"
        "| case | share: Inflight | z-test, looked at | z-test, once "
        "| median: Inflight | z-test, looked at | once | unit |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    return "\n".join([head, *(row.line() for row in rows)])


def main(
    streams: Annotated[int, typer.Option(min=10, help="Streams of each case.")] = 2_000,
    seed: int = 1,
    write: Annotated[bool, typer.Option("--write", help="Replace the table in docs/rollouts.md.")] = False,
) -> None:
    """Print the table."""
    found = table(simulate(streams, seed), streams, seed)
    typer.echo(found)
    if write:
        text = PAGE.read_text()
        before, rest = text.split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{found}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    typer.run(main)

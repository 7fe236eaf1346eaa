"""Samples of `/metrics` over time: increases, rates and quantiles, computed as Prometheus does."""

import math
from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
Series = Mapping[tuple[str, Labels], float]
"""The value of each sample, by its name and labels."""


class LabelDict(dict[str, str]):
    """The labels of a sample. Missing labels, as on a page of another release, are empty strings."""

    def __missing__(self, name: str) -> str:
        return ""


class Scrape(NamedTuple):
    """The samples of an endpoint at a monotonic time in seconds."""

    at: float
    series: Series


def parse(text: str) -> Series:
    """The samples of a page in Prometheus' text format, without NaN and infinity.

    Raises:
        ValueError: the page has another format.
    """
    try:
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if math.isfinite(sample.value)
        }
    except Exception as error:  # The parser raises anything on what is no such page.
        raise ValueError(f"not a page of metrics ({type(error).__name__})") from error


class Window:
    """The scrapes of the endpoints of one kind of process within the last `seconds`, newest last.

    Increases are summed over the endpoints. A counter that decreased was reset and counts from zero; a counter missing
    from the previous scrape was zero.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._scrapes: dict[str, list[Scrape]] = {}

    def add(self, url: str, scrape: Scrape | None) -> None:
        """Add the next scrape of an endpoint; None if it did not respond."""
        if scrape is None:
            self._scrapes.pop(url, None)
            return
        kept = [one for one in self._scrapes.get(url, []) if scrape.at - one.at <= self._seconds]
        # At least one earlier scrape to compare with, however long the interval.
        before = kept or self._scrapes.get(url, [])[-1:]
        self._scrapes[url] = [*before, scrape]

    def values(self, name: str) -> list[tuple[LabelDict, float]]:
        """The current samples of this name, of all endpoints."""
        return [
            (LabelDict(labels), value)
            for scrapes in self._scrapes.values()
            for (found, labels), value in scrapes[-1].series.items()
            if found == name
        ]

    def total(self, name: str) -> float:
        """The sum of the current samples of this name."""
        return sum(value for _, value in self.values(name))

    def largest(self, name: str) -> float | None:
        """The largest current sample of this name, or None if there is none."""
        return max((value for _, value in self.values(name)), default=None)

    def smallest(self, name: str) -> float | None:
        """The smallest current sample of this name, or None if there is none."""
        return min((value for _, value in self.values(name)), default=None)

    def counts(self, name: str, *by: str, **where: str) -> dict[tuple[str, ...], float]:
        """Increases within the window by these labels, summed over the others, of the samples that have `where`."""
        found: dict[tuple[str, ...], float] = {}
        for scrapes in self._scrapes.values():
            for (_, labels), increase in _increases(scrapes, name).items():
                known = dict(labels)
                if where.items() <= known.items():
                    key = tuple(known.get(label, "") for label in by)
                    found[key] = found.get(key, 0.0) + increase
        return found

    def rates(self, name: str, *by: str) -> dict[tuple[str, ...], float]:
        """Increases per second by these labels, summed over the others, of endpoints with at least two scrapes."""
        found: dict[tuple[str, ...], float] = {}
        for scrapes in self._scrapes.values():
            if len(scrapes) < 2 or scrapes[-1].at <= scrapes[0].at:
                continue
            for (sample, labels), increase in _increases(scrapes, name).items():
                assert sample == name
                known = dict(labels)
                key = tuple(known.get(label, "") for label in by)
                found[key] = found.get(key, 0.0) + increase / (scrapes[-1].at - scrapes[0].at)
        return found

    def rate(self, name: str) -> float | None:
        """The increase per second over all labels; None until there are two scrapes."""
        if not any(len(scrapes) > 1 for scrapes in self._scrapes.values()):
            return None
        return sum(self.rates(name).values())

    def quantile(self, q: float, name: str, **labels: str) -> float | None:
        """A quantile of a histogram's observations within the window; None without observations."""
        buckets: dict[float, float] = {}
        for scrapes in self._scrapes.values():
            for (_, found), increase in _increases(scrapes, f"{name}_bucket").items():
                known = dict(found)
                if labels.items() <= known.items() and (bound := _bound(known.get("le", ""))) is not None:
                    buckets[bound] = buckets.get(bound, 0.0) + increase
        return histogram_quantile(q, buckets)


def _bound(text: str) -> float | None:
    try:
        bound = float(text)
    except ValueError:
        return None
    return None if math.isnan(bound) else bound


def _increases(scrapes: list[Scrape], name: str) -> dict[tuple[str, Labels], float]:
    found: dict[tuple[str, Labels], float] = {}
    for before, after in pairwise(scrapes):
        for series, value in after.series.items():
            if series[0] == name:
                was = before.series.get(series, 0.0)
                found[series] = found.get(series, 0.0) + (value - was if value >= was else value)
    return found


def histogram_quantile(q: float, buckets: Mapping[float, float]) -> float | None:
    """A quantile of a histogram, interpolated linearly within its bucket, as Prometheus' function of this name does.

    Args:
        q: from 0 to 1.
        buckets: cumulative counts by upper bound.

    Returns:
        The lower bound of the last bucket if the quantile lies there; None without observations, or if the last bucket
        is not that of infinity.
    """
    bounds = sorted(buckets)
    if len(bounds) < 2 or bounds[-1] != math.inf:
        return None
    # Running maxima: scrapes taken at different times can make a wider bucket seem to hold less.
    counts = list(accumulate((buckets[bound] for bound in bounds), max))
    if counts[-1] <= 0:
        return None
    rank = q * counts[-1]
    index = next((i for i, count in enumerate(counts[:-1]) if count >= rank), len(counts) - 1)
    if index == len(counts) - 1:
        return bounds[-2]
    if index == 0 and bounds[0] <= 0:
        return bounds[0]
    start, before = (bounds[index - 1], counts[index - 1]) if index else (0.0, 0.0)
    return start + (bounds[index] - start) * (rank - before) / (counts[index] - before)

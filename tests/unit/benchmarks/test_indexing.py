"""How the rates of the indexer are compared."""

from datetime import UTC, datetime

from benchmarks.indexing import Found, Indexed
from benchmarks.machine import Machine

MACHINE = Machine(2, True, "a processor", "Linux 6", "3.11.7", {}, 0.5)


def one(case: str, number: int, rate: float) -> Indexed:
    return Indexed(case, number, 100, 100, rate, 1e-5, 1)


def test_a_ratio_is_that_of_one_round() -> None:
    """A machine that slows down halfway slows both; rounds without the reference have none."""
    rounds = [one("indexer", 1, 90.0), one("bare", 1, 100.0), one("bare", 2, 10.0), one("indexer", 2, 11.0)]
    found = Found(MACHINE, "nodes", datetime(2026, 1, 1, tzinfo=UTC), 100, 600.0, [*rounds, one("indexer", 3, 5.0)])
    assert found.ratios() == {"indexer": [0.9, 1.1], "bare": [1.0, 1.0]}

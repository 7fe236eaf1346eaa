"""The tables and the JSON object."""

from datetime import UTC, datetime

import msgspec
import pytest
from rich.console import Console

from benchmarks.deployment import EvaluationError, deploy
from benchmarks.machine import Machine
from benchmarks.report import answers, print_report, to_json
from benchmarks.run import Found
from benchmarks.throughput import Run

MACHINE = Machine(2, True, "a processor", "Linux 6", "3.11.7", {"msgspec": "0.22"}, 0.5)


def runs(case: str, *rates: float, **changes: object) -> list[Run]:
    plain = {"requests": 1000, "answered": 1000, "repeats": 0, "differing": 0, "cut_off": False}
    sizes = {"cpu_seconds_per_record": 1e-5, "peak_rss_bytes": 300_000_000, "rss_bytes": 200_000_000}
    return [
        Run(**{"case": case, "round": number, "rate": rate, **plain, **sizes, **changes})
        for number, rate in enumerate(rates, 1)
    ]


def found() -> Found:
    measured = runs("worker", 90.0, 110.0, 100.0) + runs("bare", 100.0, 100.0, 200.0)
    return Found(MACHINE, "Apache Kafka", datetime(2026, 1, 1, tzinfo=UTC), 1000, throughput=measured)


def test_the_table_has_median_range_and_ratio() -> None:
    """The ratio is the median of the rounds' ratios, not the ratio of the medians."""
    console = Console(width=160, record=True, quiet=False, file=None, force_terminal=False)
    with console.capture() as captured:
        print_report(found(), console)
    line = next(line for line in captured.get().splitlines() if "Inflight worker" in line)
    for figure in ("100", "90 - 110", "0.90", "10.0", "200", "300", "all, equal"):
        assert figure in line


def test_json_holds_every_round_and_the_ratios() -> None:
    """A program can compute its own summary."""
    plain = msgspec.json.decode(to_json(found()))
    assert len(plain["throughput"]) == 6
    assert plain["ratios"]["worker"] == [0.9, 1.1, 0.5]
    assert plain["machine"]["cores"] == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "all, equal"),
        ({"answered": 990}, "10 LOST"),
        ({"answered": 990, "cut_off": True}, "slow: stopped after 990"),
        ({"repeats": 3}, "3 repeated"),
        ({"differing": 2, "answered": 999}, "1 LOST, 2 DIFFER"),
    ],
)
def test_a_row_says_what_became_of_the_requests(changes: dict[str, object], said: str) -> None:
    """Nothing that is missing goes unsaid."""
    assert answers(runs("worker", 1.0, **changes)) == said


def test_without_java_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The figures of another broker are never given for Kafka's without a word."""
    monkeypatch.setenv("PATH", "")
    fix = r"java and mvn is not on PATH: install Java 17 and Maven, or .*--stack embedded"
    with pytest.raises(EvaluationError, match=fix), deploy("real"):
        pass

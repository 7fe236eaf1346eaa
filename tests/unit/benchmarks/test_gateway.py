"""What the load generator reports, and where a curve ends."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks import load_tool
from benchmarks.deployment import EvaluationError
from benchmarks.gateway import Overhead, climb, is_saturated
from benchmarks.load_tool import Load, read

REPORT: dict[str, Any] = {
    "summary": {"successRate": 1.0, "total": 10.0, "slowest": 0.25, "requestsPerSec": 99.5},
    "latencyPercentiles": {"p50": 0.004, "p90": 0.006, "p99": 0.011, "p99.9": 0.1, "p99.99": None},
    "statusCodeDistribution": {"200": 998, "503": 1},
    "errorDistribution": {"deadline has elapsed": 1},
}


def test_figures_of_a_report() -> None:
    """In milliseconds; what has no answer is named."""
    found = read("diamonds", 100.0, 1_000, REPORT)
    assert (found.answered, found.rate, found.p50, found.p99, found.p999, found.maximum) == (998, 99.5, 4, 11, 100, 250)
    assert found.statuses == {"200": 998, "503": 1}
    assert found.errors == {"deadline has elapsed": 1}


def test_a_run_without_any_answer_is_not_fast() -> None:
    nothing = REPORT | {
        "latencyPercentiles": dict.fromkeys(("p50", "p90", "p99", "p99.9")),
        "statusCodeDistribution": {},
    }
    found = read("diamonds", 100.0, 1_000, nothing)
    assert found.p50 == found.p99 == float("inf")
    assert is_saturated(found)


def load(rate: float, followed: float = 1.0, p99: float = 10.0, answered: float = 1.0) -> Load:
    requests = int(rate * 10)
    count = int(requests * answered)
    return Load("d", rate, rate * followed, requests, count, {"200": count}, {}, 1, 2, p99, p99, p99)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (load(100), False),
        (load(100, followed=0.9), True),
        (load(100, p99=2_000), True),
        (load(100, answered=0.9), True),
    ],
)
def test_saturation(found: Load, expected: bool) -> None:
    assert is_saturated(found) is expected


def test_a_curve_ends_where_it_is_saturated() -> None:
    measured = climb([100, 200, 300, 400], lambda rate: load(rate, followed=1.0 if rate < 300 else 0.5))
    assert [one.wanted_rate for one in measured] == [100, 200, 300]


def test_overhead_is_the_difference() -> None:
    found = Overhead(100, 3.0, 8.0, 5.0, 12.0)
    assert (found.p50, found.p99) == (2.0, 4.0)


def test_without_the_tool_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CARGO_HOME", str(tmp_path))
    with pytest.raises(EvaluationError, match="cargo install oha"):
        load_tool.find_tool()

"""The nightly gate: ratios below their floor, lost answers, and a run that measured nothing."""

import pytest

from benchmarks.gate import FLOORS, findings


def figures(worker: list[float], bare: list[float], **worse: int) -> dict:
    good = {"lost": 0, "differing": 0}
    runs = [{"case": "worker", "rate": rate, **good, **worse} for rate in worker]
    return {"throughput": [*runs, *({"case": "bare-logged", "rate": rate, **good} for rate in bare)]}


@pytest.mark.parametrize("factor", [0.01, 1.0, 50.0])
def test_the_speed_of_the_machine_does_not_matter(factor: float) -> None:
    assert (
        findings(figures([71e3 * factor, 68e3 * factor, 10e3 * factor], [54e3 * factor, 51e3 * factor, 9e3 * factor]))
        == []
    )


def test_one_bad_round_is_no_regression_and_a_bad_median_is() -> None:
    assert findings(figures([70.0, 20.0, 70.0], [50.0, 50.0, 50.0])) == []
    (line,) = findings(figures([50.0, 51.0, 70.0], [50.0, 50.0, 50.0]))
    assert line == "worker is 1.02 times as fast as bare-logged, the floor is 1.10"


def test_lost_and_changed_answers_and_missing_rounds_are_found() -> None:
    assert findings(figures([70.0], [50.0], lost=2)) == ["worker: 2 lost"]
    assert findings(figures([70.0], [50.0], differing=1)) == ["worker: 1 differing"]
    assert findings(figures([70.0], [])) == ["worker against bare-logged: no round has both"]
    assert all(floor >= 1 for floor in FLOORS.values())

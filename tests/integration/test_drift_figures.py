"""What docs/drift.md says of the drift monitor: false alarms, what is found and how soon."""

from pathlib import Path

import pytest

from benchmarks import drift
from benchmarks.drift import SHIFTS, Power
from benchmarks.drift_data import Data
from tests.support.doses import FULL


@pytest.fixture(scope="module")
def diamonds() -> Data:
    return drift.diamonds()


@pytest.fixture(scope="module")
def amazon() -> Data:
    return drift.amazon()


@pytest.mark.parametrize("name", ["diamonds", "amazon"])
def test_clean_windows_are_alarms_no_more_often_than_stated(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Windows of held-out rows, at 0.01: one alarm in 100 is expected at most, by the tests alone."""
    windows, most = (200, 7) if FULL else (50, 4)
    found = drift.false_alarms(request.getfixturevalue(name), windows, tmp_path)
    assert (found.windows, found.significance) == (windows, 0.01)
    # At a rate of 0.01, more would have a probability of 1 in 990 (200 windows) or 1 in 6,860 (50 windows).
    assert found.alarms <= found.alarms_by_tests_alone <= most


def test_shifted_diamonds_are_found_within_two_windows_and_named(diamonds: Data, tmp_path: Path) -> None:
    """Wherever in a window the shift begins. Changed labels can't be seen; a tenth more of carat only at times."""
    found = {power.shift: power for power in drift.shifts_of_diamonds(diamonds, tmp_path, windows=5 if FULL else 3)}
    assert found.keys() == SHIFTS.keys()
    labels, little = found.pop("prices x 1.4 (labels only)"), found.pop("carat x 1.1")
    assert (labels.alarms, labels.found) == (0, 0)
    assert little.alarms > 0
    for power in found.values():
        _is_always_found(power)
    carat = {"features.carat"}
    assert {name: set(power.named) - {"predictions.price"} for name, power in found.items()} == {
        "carat in grams (x 0.2)": carat,
        "carat x 1.4": carat,
        "a third of the cuts is Fair": {"features.cut"},
        "a tenth of the cuts is Fair": {"features.cut"},
        "a tenth without a length (x = 0)": {"features.x"},
        "a twentieth 99 mm long": {"features.x"},
    }


def test_sentences_about_films_are_found_within_two_windows(amazon: Data, tmp_path: Path) -> None:
    """After sentences about products, in windows of 100 and of 200."""
    for power in drift.products_then_films(amazon, tmp_path):
        _is_always_found(power)
        assert "features.text" in power.named


def _is_always_found(power: Power) -> None:
    assert power.alarms == power.windows, power
    assert power.found == power.onsets, power
    assert power.delay_windows_max is not None
    assert power.delay_windows_max <= 2

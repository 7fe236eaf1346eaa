"""Records of no use, or of ill will: they are counted as such, and stop nothing."""

import msgspec
import pytest
from msgspec import Raw

from machine_learning_engineering.events.schemas import encode
from monitoring.drift.batch import decode_objects
from monitoring.drift.measurement import measure
from monitoring.drift.windows import Windows
from tests.support.drift_stream import FULL_AT_SIX, HOUR, Known, add, row
from tests.unit.monitoring.conftest import ACCEPTED


def test_rows_of_no_use_are_counted_and_change_nothing() -> None:
    """Failures, what is no log, what is no object, versions that have no profile."""
    windows = Windows(Known(), FULL_AT_SIX)
    failed = row(0, outcome="failed", prediction=msgspec.UNSET)
    nested = b"[" * 500 + b"]" * 500
    useless = [
        b"",
        b"{",
        b"null",
        failed,
        row(1, version="9"),
        row(2, features=Raw(b"[1]")),
        row(3, features=Raw(b"5")),
    ]
    add(windows, [*useless, row(4, features=Raw(nested)), row(5, prediction=Raw(b'"text"'))])
    expected = {"unreadable": 7, "failed": 1, "no_profile": 1, "counted": 0, "sampled_out": 0}
    assert (windows.row_counts, windows.open()) == (expected, {})
    assert windows.next_offsets == {0: 9}


def test_one_bad_value_does_not_cost_the_others() -> None:
    """They are decoded together, and again one by one if that fails."""
    values = [Raw(b'{"a": 1}'), Raw(b"{"), Raw(b'{"a": 2}')]
    assert decode_objects(values) == [{"a": 1}, None, {"a": 2}]


def test_any_value_of_a_feature_can_be_counted() -> None:
    """Whatever a forged record holds."""
    windows = Windows(Known(), FULL_AT_SIX)
    strange = ["1e400", "-1e308", "123456789012345678901234567890", '"text"', "[1]", '{"a": 1}', "null", "true"]
    for index, value in enumerate(strange):
        text = f'{{"carat": {value}, "cut": {value}}}'
        add(windows, [row(index, features=Raw(text.encode()))], first=index)
    assert windows.row_counts["counted"] + windows.row_counts["unreadable"] == len(strange)
    assert windows.row_counts["counted"] >= 7


@pytest.mark.parametrize(
    ("poison", "counts"),
    [
        pytest.param(
            row(9).replace(b'"accepted_at":"2026-03-01T12:00:00Z"', b'"accepted_at":"2026-03-01T12:00:00"'), 0
        ),
        pytest.param(row(9).replace(b"2026-03-01T12:00:00Z", b"0001-01-01T00:00:00+23:59"), 0),
        pytest.param(row(9).replace(b"2026-03-01T12:00:00Z", b"9999-12-31T23:59:59Z"), 1),
        pytest.param(row(9, features=Raw(b'{"x":' * 600 + b"1" + b"}" * 600)), 0),
        pytest.param(row(9, features=Raw(b'{"x":' + b"[" * 900 + b"]" * 900 + b"}")), 0),
        pytest.param(row(9, prediction=Raw(b'{"x":' * 600 + b"1" + b"}" * 600)), 0),
        pytest.param(row(9, features=Raw(b'{"carat":1' + b"0" * 400 + b"}")), 1),
    ],
    ids=["no offset", "before year 1", "year 9999", "deep", "deep list", "deep answer", "huge"],
)
def test_no_record_stops_the_counting(poison: bytes, counts: int) -> None:
    """It would be read again at each start. What has no time or is nested too deeply is unreadable."""
    windows = Windows(Known(), FULL_AT_SIX)
    closed = add(windows, [poison, row(0), row(1), poison, row(2)])
    closed += windows.overdue(ACCEPTED + 30 * HOUR)
    assert windows.row_counts["counted"] == 3 + 2 * counts
    assert windows.row_counts["unreadable"] == 2 - 2 * counts
    for window in closed:
        assert encode(measure(window, significance=0.01, min_psi=0.1))

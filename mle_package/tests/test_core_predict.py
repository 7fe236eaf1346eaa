"""The predict loop that isolates failing rows."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.core.predict import predict_or_bisect


class Picky:
    """Doubles each row, and raises for any batch with a row in `bad`."""

    def __init__(self, bad: set[int]) -> None:
        self.bad = bad
        self.calls = 0

    def predict(self, rows: Sequence[int], /) -> Sequence[int]:
        self.calls += 1
        if self.bad & set(rows):
            raise ValueError("a bad row")
        return [2 * row for row in rows]


@given(st.integers(0, 40), st.sets(st.integers(0, 39), max_size=6))
def test_each_row_has_one_outcome_in_order(count: int, bad: set[int]) -> None:
    """Exactly the bad rows fail, within the promised number of calls."""
    model = Picky(bad)
    outcomes: list[int | None] = []
    for call in predict_or_bisect(model, range(count)):
        assert call.rows.start == len(outcomes)
        outcomes += [None] if call.error is not None else list(call.predictions)
        assert call.error is not None or list(call.encoded) == [str(one).encode() for one in call.predictions]
        assert call.seconds >= 0
    assert outcomes == [None if row in bad else 2 * row for row in range(count)]
    assert model.calls <= max(0, 2 * count - 1)
    assert bad & set(range(count)) or model.calls == min(count, 1)


@pytest.mark.parametrize("answer", [[], [1, 2], [float("nan")], ["x" * 9]], ids=["none", "two", "nan", "large"])
def test_wrong_predictions_are_a_failure_of_the_row(answer: list[object]) -> None:
    """A wrong number, not finite, or too large."""

    class Wrong:
        def predict(self, rows: Sequence[object], /) -> Sequence[object]:
            return answer

    [call] = predict_or_bisect(Wrong(), ["row"], max_bytes=10)
    assert isinstance(call.error, ValueError)


def test_an_error_that_is_no_rows_fault_is_raised() -> None:
    """As a method that is not implemented."""
    with pytest.raises(ValueError, match="a bad row"):
        list(predict_or_bisect(Picky({0}), [0, 1], propagate=(ValueError,)))

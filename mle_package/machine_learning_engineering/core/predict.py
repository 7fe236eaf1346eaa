"""Batch prediction that isolates the rows a model fails on."""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

from machine_learning_engineering.core.faults import FaultRetry, MachineFaultError
from machine_learning_engineering.core.json_values import finite_json


class Predictor(Protocol):
    """Part of a model that predicts."""

    def predict(self, rows: Sequence[Any], /) -> Sequence[Any]:
        """Return one prediction per row, in order."""


class PredictCall(NamedTuple):
    """Outcome of one call of `predict`."""

    rows: slice
    """Positions of the rows in the batch."""
    predictions: Sequence[Any]
    """One per row; empty if there is an `error`."""
    encoded: Sequence[bytes]
    """The predictions as JSON."""
    seconds: float
    error: Exception | None
    """What the call raised. `rows` is then a single row."""


def predict_or_bisect(
    model: Predictor,
    rows: Sequence[Any],
    *,
    max_bytes: int | None = None,
    propagate: tuple[type[Exception], ...] = (),
    clock: Callable[[], float] = time.perf_counter,
    retry: FaultRetry | None = None,
) -> Iterator[PredictCall]:
    """Predict `rows` in one call; if it raises, halve the batch and retry, so that every failing row stands alone.

    A call that raises a fault of the machine is repeated as it is: no row is to blame for it.

    A call also fails if it returns a wrong number of predictions, or predictions that are not finite JSON.

    Args:
        model: Its `predict` is called once if no row fails, and at most ``2 * len(rows) - 1`` times.
        rows: Decoded rows.
        max_bytes: Maximum size of a prediction as JSON.
        propagate: Exceptions that no row is to blame for; they are raised.
        clock: Clock in seconds.
        retry: How long calls are repeated.

    Yields:
        Outcomes in the order of the rows. Together they cover each row once.

    Raises:
        MachineFaultError: A fault of the machine did not pass.
    """
    retry = FaultRetry() if retry is None else retry
    pending = [slice(0, len(rows))] if rows else []
    while pending:
        part = pending.pop()
        chosen = rows[part]
        started = clock()
        try:
            predictions = retry(partial(model.predict, chosen))
            if len(predictions) != len(chosen):
                raise ValueError(f"predict returned {len(predictions)} predictions for {len(chosen)} rows")
            # Encoded here, because a prediction that cannot be encoded is a failure of its row, too.
            encoded = finite_json(predictions)
            if max_bytes is not None and (size := max(map(len, encoded))) > max_bytes:
                raise ValueError(f"a prediction has {size:,} bytes; the maximum is {max_bytes:,}")
        except MachineFaultError:
            raise
        except propagate:
            raise
        except Exception as error:
            if len(chosen) == 1:
                yield PredictCall(part, (), (), max(0.0, clock() - started), error)
            else:
                middle = (part.start + part.stop) // 2
                pending += [slice(middle, part.stop), slice(part.start, middle)]
        else:
            yield PredictCall(part, predictions, encoded, max(0.0, clock() - started), None)

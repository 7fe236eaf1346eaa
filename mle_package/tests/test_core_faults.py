"""What is a fault of the machine, and how long it is waited for."""

import errno
import sqlite3

import pytest

from machine_learning_engineering.core import faults
from machine_learning_engineering.core.faults import FaultRetry, MachineFaultError, is_machine_fault
from machine_learning_engineering.core.predict import predict_or_bisect


class OperationalError(Exception):
    """As psycopg's and SQLAlchemy's, which the SDK does not import."""


class ReadTimeout(OperationalError):
    """A subclass of one."""


def raised_from(cause: BaseException | None, context: BaseException | None = None) -> Exception:
    error = RuntimeError("the lookup failed")
    error.__cause__, error.__context__ = cause, context
    error.__suppress_context__ = cause is not None
    return error


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.OperationalError("database is locked"),
        sqlite3.DatabaseError("database disk image is malformed"),
        MemoryError(),
        TimeoutError(),
        ConnectionResetError(),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EMFILE, "Too many open files"),
        OperationalError(),
        ReadTimeout(),
        raised_from(sqlite3.OperationalError()),
        raised_from(None, context=ConnectionRefusedError()),
    ],
    ids=lambda error: type(error).__name__,
)
def test_faults_of_the_machine(error: Exception) -> None:
    """They pass, or someone has to mend the machine; no request is to blame."""
    assert is_machine_fault(error)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a bad row"),
        ZeroDivisionError(),
        sqlite3.IntegrityError("UNIQUE constraint failed"),
        sqlite3.ProgrammingError("Incorrect number of bindings"),
        FileNotFoundError(errno.ENOENT, "No such file or directory"),
        OSError(errno.ENAMETOOLONG, "File name too long"),
        raised_from(KeyError("x")),
        raised_from(KeyError("x"), context=ConnectionRefusedError()),
    ],
    ids=lambda error: type(error).__name__,
)
def test_faults_of_a_row(error: Exception) -> None:
    """A row could cause the same error every time: a worker that waited for it would never get further."""
    assert not is_machine_fault(error)


class Locked:
    """Raises for its first calls."""

    def __init__(self, times: float) -> None:
        self.left = times
        self.sizes: list[int] = []

    def predict(self, rows: list[int], /) -> list[int]:
        self.sizes.append(len(rows))
        if self.left > 0:
            self.left -= 1
            raise sqlite3.OperationalError("database is locked")
        return rows


@pytest.mark.parametrize("count", [1, 4])
def test_a_call_is_repeated_until_the_fault_has_passed(count: int) -> None:
    """Whether the batch holds one row or several: they are all predicted, in one call."""
    model = Locked(3)
    [call] = predict_or_bisect(model, list(range(count)))
    assert call.error is None
    assert model.sizes == [count] * 4


def test_a_fault_that_does_not_pass_is_no_outcome_of_a_row() -> None:
    """It is raised, with the place where it came from, and without its message."""
    with pytest.raises(MachineFaultError, match=r"OperationalError at test_core_faults\.py:\d+ in predict for 0\.2 s"):
        list(predict_or_bisect(Locked(float("inf")), [1], retry=FaultRetry(0.2)))


class Huge:
    """Allocates what a row asks for, in bytes."""

    def predict(self, rows: list[int], /) -> list[int]:
        return [len(bytearray(row)) for row in rows]


def test_a_row_that_asks_for_more_memory_than_there_is_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would do so after each restart, and end every worker that reads it."""
    monkeypatch.setattr(faults, "MEMORY_SECONDS", 0.1)
    calls = list(predict_or_bisect(Huge(), [1, 2, 1 << 60, 4]))
    assert [(call.rows, type(call.error)) for call in calls] == [
        (slice(0, 2), type(None)),
        (slice(2, 3), MemoryError),
        (slice(3, 4), type(None)),
    ]


def test_a_machine_without_memory_is_no_rows_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody gets memory, the rows are predicted again later."""
    monkeypatch.setattr(faults, "_PROBE_BYTES", 1 << 60)
    with pytest.raises(MachineFaultError):
        list(predict_or_bisect(Huge(), [1 << 60], retry=FaultRetry(0.2)))


def test_all_calls_of_a_batch_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a batch of many calls could take as many times as long, and look stalled."""
    now = [0.0]
    monkeypatch.setattr(faults.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(faults.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    retry = FaultRetry(30.0)
    model = Locked(5)
    assert retry(lambda: model.predict([1])) == [1]
    before = now[0]
    with pytest.raises(MachineFaultError):
        retry(lambda: Locked(1e9).predict([1]))
    assert 0 < before < 30
    assert now[0] == pytest.approx(30.0)

"""Contract checks for implementations of `PredictionLog`.

Call `check_prediction_log(lambda: MyLog(...))` anywhere, or run one pytest test per check::

    @pytest.mark.parametrize("check", STORE_CHECKS, ids=lambda check: check.__name__)
    def test_my_log(check, tmp_path):
        run_store_check(check, lambda: MyLog(tmp_path / "log"))
"""

from machine_learning_engineering.testing.log_store_checks import STORE_CHECKS, OpenLog, StoreCheck

__all__ = ["STORE_CHECKS", "StoreCheckFailed", "check_prediction_log", "run_store_check"]


class StoreCheckFailed(AssertionError):
    """A log fails a check. The message names the check and says what it found."""


def check_prediction_log(open_log: OpenLog) -> None:
    """Run all checks.

    Args:
        open_log: Opens the log; a second call opens the same log again.

    Raises:
        StoreCheckFailed: For the first check that fails.
    """
    for check in STORE_CHECKS:
        run_store_check(check, open_log)


def run_store_check(check: StoreCheck, open_log: OpenLog) -> None:
    """Run one check.

    Raises:
        StoreCheckFailed: The check fails, or the log raised an error.
    """
    try:
        problem = check(open_log)
    except Exception as error:
        raise StoreCheckFailed(f"`{check.__name__}`: {type(error).__name__} was raised: {error}") from error
    if problem is not None:
        raise StoreCheckFailed(f"`{check.__name__}`: {problem}")

"""Whether a store of predictions keeps the laws of `PredictionLog`.

Use `check_prediction_log(lambda: MyLog(...))` anywhere, or, with pytest, one test a law::

    @pytest.mark.parametrize("law", STORE_CHECKS, ids=lambda law: law.__name__)
    def test_my_log(law, tmp_path):
        check_log_law(law, lambda: MyLog(tmp_path / "log"))
"""

from machine_learning_engineering.testing.log_store_checks import STORE_CHECKS, OpenLog, StoreCheck

__all__ = ["StoreCheckFailed", "check_log_law", "check_prediction_log"]


class StoreCheckFailed(AssertionError):
    """A log breaks a law; the message names the law and says what was seen."""


def check_prediction_log(open_log: OpenLog) -> None:
    """Check every law.

    Raises:
        StoreCheckFailed: for the first law that does not hold.
    """
    for law in STORE_CHECKS:
        check_log_law(law, open_log)


def check_log_law(law: StoreCheck, open_log: OpenLog) -> None:
    """Check one law.

    Raises:
        StoreCheckFailed: it does not hold, or the log raised something while it was checked.
    """
    try:
        seen = law(open_log)
    except Exception as error:
        raise StoreCheckFailed(f"the law `{law.__name__}`: {type(error).__name__} was raised: {error}") from error
    if seen is not None:
        raise StoreCheckFailed(f"the law `{law.__name__}`: {seen}")

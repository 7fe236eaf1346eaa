"""Slots of a cron line, in UTC."""

from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError

_MAX_CHARACTERS = 200


def check_schedule(line: str) -> None:
    """Check a cron line: five fields, or six that begin with seconds.

    Raises:
        ValueError: It is none, or names no time.
    """
    if len(line) > _MAX_CHARACTERS:
        raise ValueError(f"has {len(line)} characters; a cron line has at most {_MAX_CHARACTERS}")
    try:
        next(CronSim(line, datetime(2026, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise ValueError(f"is no cron line ({error!s:.100})") from error
    except StopIteration:
        raise ValueError("names no time, such as 30 February") from None
    except (AssertionError, TypeError, ValueError, IndexError) as error:  # What its parser does not foresee.
        raise ValueError("is no cron line") from error


def newest_slot(line: str, now: datetime) -> datetime:
    """The newest time of a cron line that is not after `now`.

    Raises:
        StopIteration: There is none in the fifty years before.
    """
    # Backwards, a start is left out.
    return next(CronSim(line, now.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1), reverse=True))


def next_slot(line: str, now: datetime) -> datetime:
    """The first time of a cron line that is after `now`.

    Raises:
        StopIteration: There is none in the fifty years after.
    """
    return next(CronSim(line, now.astimezone(UTC)))

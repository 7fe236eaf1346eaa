"""How late it is for windows, and that rows which wait are never too late."""

from datetime import UTC, datetime, timedelta

import pytest

from monitoring.drift.batch import read_batch
from monitoring.drift.stream_time import stream_time
from tests.support.drift_stream import HOUR, numbered, row
from tests.unit.monitoring.conftest import ACCEPTED

FUTURE = datetime(9999, 1, 1, tzinfo=UTC)


def test_at_the_ends_of_all_partitions_our_clock_counts() -> None:
    """A quiet model is looked at too, and a partition that never had a record waits for none."""
    before = datetime.now(UTC)
    found = stream_time({0, 1}, {0, 1}, {0: ACCEPTED})
    assert found is not None
    assert before <= found <= datetime.now(UTC)


@pytest.mark.parametrize("ends", [set(), {0}], ids=["no end was seen", "only another one"])
def test_before_anything_is_read_of_a_partition_nothing_is_late(ends: set[int]) -> None:
    """After a start or a rebalance: nobody knows what waits there."""
    assert stream_time({0, 1}, ends, {0: ACCEPTED}) is None


def test_while_a_backlog_waits_the_rows_say_how_late_it_is() -> None:
    """Those of the partition that is most behind; one that is read to its end does not count."""
    newest = {0: ACCEPTED + 2 * HOUR, 1: ACCEPTED + HOUR, 2: ACCEPTED}
    assert stream_time({0, 1, 2}, {2}, newest) == ACCEPTED + HOUR


def test_a_clock_ahead_of_ours_closes_nothing() -> None:
    """Whatever a record says."""
    found = stream_time({0}, set(), {0: FUTURE})
    assert found is not None
    assert found <= datetime.now(UTC)


def test_failed_requests_tell_the_time_too() -> None:
    """Else a partition that has only those would hold up the windows of all others."""
    values = [row(0, seconds=5), row(1, seconds=9, outcome="failed"), row(2, seconds=7), b"rubbish"]
    assert read_batch(numbered(values, partition=3)).newest == {3: ACCEPTED + timedelta(seconds=9)}

"""When a record was written."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytest.importorskip("confluent_kafka", reason="needs the extra kafka")

from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, TIMESTAMP_NOT_AVAILABLE, Message

from machine_learning_engineering.events.record_time import recorded_at, written_at

YEAR_2000 = datetime(2000, 1, 1, tzinfo=UTC)
MILLISECONDS = int(YEAR_2000.timestamp() * 1000)


def record(kind: int, milliseconds: int) -> Any:
    return Message(topic="labels", partition=0, offset=0, value=b"", timestamp=(kind, milliseconds))


def test_the_time_of_a_record() -> None:
    """Whoever set it."""
    for kind in (TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME):
        assert recorded_at(record(kind, MILLISECONDS)) == YEAR_2000


@pytest.mark.parametrize("milliseconds", [-1, 1_000 * MILLISECONDS * 1_000, 2**62], ids=["none", "nanoseconds", "most"])
@pytest.mark.parametrize("kind", [TIMESTAMP_NOT_AVAILABLE, TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME])
def test_a_time_that_can_not_be_is_none(kind: int, milliseconds: int) -> None:
    """A topic of somebody else may hold anything."""
    assert recorded_at(record(kind, milliseconds)) is None
    assert abs(written_at(record(kind, milliseconds)) - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_sender_does_not_choose_when_a_record_was_written() -> None:
    """The broker's clock counts, or ours."""
    assert written_at(record(TIMESTAMP_LOG_APPEND_TIME, MILLISECONDS)) == YEAR_2000
    assert abs(written_at(record(TIMESTAMP_CREATE_TIME, MILLISECONDS)) - datetime.now(UTC)) < timedelta(minutes=1)

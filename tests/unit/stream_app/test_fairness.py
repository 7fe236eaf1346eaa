"""How long a request may wait behind those of a slow model: for what was read before it, and nothing else."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from stream_app.kafka.buffer import BatchBuffer
from stream_app.serving.batch import TP
from tests.support.request_records import REQUESTS, requests

SLOW, OTHER = (TP(REQUESTS, number) for number in range(2))


@given(
    before=st.integers(0, 30),
    limit=st.integers(1, 8),
    slots=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    arriving=st.integers(0, 6),
)
def test_what_arrives_later_goes_first_on_no_partition(
    before: int, limit: int, slots: list[int], arriving: int
) -> None:
    """Though a sender keeps another partition full, and batches of it that wait are joined."""
    buffer = BatchBuffer()
    sent = 0

    def send(count: int) -> None:
        nonlocal sent
        for _ in range(count):
            buffer.append(requests(sent, partition=SLOW.partition, first=sent))
            sent += 1

    send(before)
    buffer.append(requests(1, partition=OTHER.partition))
    rounds, passed, taken = 0, 0, False
    while not taken:
        for batch in buffer.take({SLOW, OTHER}, slots[rounds % len(slots)], limit):
            taken = taken or batch.tp == OTHER
            passed += len(batch.records) if not taken else 0
        rounds += 1
        send(arriving)
        assert rounds <= before + 1
    # A batch that was begun before may be filled up with what came later.
    assert passed < before + limit


def test_a_partition_that_is_not_active_holds_up_no_other() -> None:
    """As while it is revoked."""
    buffer = BatchBuffer()
    for number in range(100):
        buffer.append(requests(number, partition=SLOW.partition, first=number))
    buffer.append(requests(1, partition=OTHER.partition))
    [batch] = buffer.take({OTHER}, sys.maxsize, 1)
    assert batch.tp == OTHER

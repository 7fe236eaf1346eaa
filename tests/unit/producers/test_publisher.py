from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import errors as kafka_errors

from producers.publisher import Publisher


class Sending:
    """A send whose outcome is given: done at once, or when it is waited for."""

    def __init__(self, exception: BaseException | None, *, done: bool = True) -> None:
        self.exception = exception
        self.is_done = done

    def get(self, timeout: float | None = None) -> Any:
        self.is_done = True
        if self.exception is not None:
            raise self.exception


class Never(Sending):
    """A send that gets no answer."""

    def __init__(self) -> None:
        super().__init__(None, done=False)

    def get(self, timeout: float | None = None) -> Any:
        raise kafka_errors.KafkaTimeoutError("still waiting")


class Script:
    """A producer that plays outcomes in turn: an error, None for success, or a Sending; then success for ever."""

    def __init__(self, *outcomes: Any) -> None:
        self.outcomes = list(outcomes)
        self.sent: list[tuple[Any, ...]] = []

    def send(self, topic, value, key, headers, partition):  # type: ignore[no-untyped-def]
        self.sent.append((topic, value, key, headers, partition))
        outcome = self.outcomes.pop(0) if self.outcomes else None
        return outcome if isinstance(outcome, Sending) else Sending(outcome)


def _counts(publisher: Publisher) -> tuple[int, int, int, int]:
    return publisher.accepted, publisher.failed, publisher.indeterminate, publisher.outstanding


def test_an_acknowledged_record_is_accepted_once() -> None:
    """One record, acknowledged: accepted 1 and nothing else."""
    publisher = Publisher(Script())
    publisher.publish("t", key=b"k", value=b"v")
    publisher.drain()
    assert _counts(publisher) == (1, 0, 0, 0)


def test_a_record_that_is_too_large_fails_without_a_retry_and_says_why() -> None:
    """A refusal is final: sent once, failed, with the broker's words."""
    producer = Script(kafka_errors.MessageSizeTooLargeError("5 MB"))
    publisher = Publisher(producer)
    publisher.publish("t", key=b"k", value=b"v")
    publisher.drain()
    assert _counts(publisher) == (0, 1, 0, 0)
    assert len(producer.sent) == 1
    assert "5 MB" in publisher.errors["MessageSizeTooLargeError"].first


@pytest.mark.parametrize("error", [kafka_errors.KafkaTimeoutError("60 s"), kafka_errors.RequestTimedOutError()])
def test_a_send_that_timed_out_is_indeterminate_and_neither_failed_nor_accepted(error: Exception) -> None:
    """Nobody knows whether a record whose send timed out was written, so nothing else is claimed."""
    publisher = Publisher(Script(error))
    publisher.publish("t", key=b"k", value=b"v")
    publisher.drain()
    assert _counts(publisher) == (0, 0, 1, 0)


def test_a_passing_error_is_retried_with_the_same_bytes_and_key() -> None:
    """A retry repeats topic, value, key, headers and partition, so a consumer can recognise it."""
    producer = Script(kafka_errors.OutOfOrderSequenceNumberError(), kafka_errors.NotLeaderForPartitionError())
    publisher = Publisher(producer)
    publisher.publish("t", key=b"k", value=b"v", headers=[("h", b"1")], partition=2)
    publisher.drain()
    assert _counts(publisher) == (1, 0, 0, 0)
    assert producer.sent == [("t", b"v", b"k", [("h", b"1")], 2)] * 3


def test_retries_are_bounded_and_end_indeterminate() -> None:
    """After three attempts it is over; since an attempt may have been written, the outcome is indeterminate."""
    producer = Script(*[kafka_errors.UnknownProducerIdError()] * 9)
    publisher = Publisher(producer)
    publisher.publish("t", key=b"k", value=b"v")
    publisher.drain()
    assert len(producer.sent) == 3
    assert _counts(publisher) == (0, 0, 1, 0)


def test_no_retry_after_the_time_is_used_up() -> None:
    """Time bounds the retries too."""
    now = [0.0]
    sending = Sending(kafka_errors.NotLeaderForPartitionError())
    producer = Script(sending)
    publisher = Publisher(producer, timeout=5.0, clock=lambda: now[0])
    publisher.publish("t", key=b"k", value=b"v")
    now[0] = 6.0
    publisher.settle()
    assert (len(producer.sent), publisher.indeterminate) == (1, 1)


def test_an_error_raised_by_send_itself_is_an_outcome_too() -> None:
    """kafka-python refuses a too large record by raising in `send`."""

    class Raising(Script):
        def send(self, topic, value, key, headers, partition):  # type: ignore[no-untyped-def]
            raise kafka_errors.MessageSizeTooLargeError("9 MB")

    publisher = Publisher(Raising())
    publisher.publish("t", key=b"k", value=b"v")
    assert _counts(publisher) == (0, 1, 0, 0)


@pytest.mark.parametrize(("max_records", "max_bytes"), [(3, 10**9), (10**9, 30)])
def test_no_more_than_the_bound_is_outstanding(max_records: int, max_bytes: int) -> None:
    """Records wait their turn when too many, or too many bytes, are under way."""
    producer = Script(*[Sending(None, done=False) for _ in range(50)])
    publisher = Publisher(producer, max_records=max_records, max_bytes=max_bytes)
    most = 0
    for _ in range(50):
        publisher.publish("t", key=b"k", value=b"0123456789")
        most = max(most, publisher.outstanding)
    assert most == 3
    publisher.drain()
    assert _counts(publisher) == (50, 0, 0, 0)


def test_what_gets_no_answer_becomes_indeterminate_when_draining_ends() -> None:
    """Draining is bounded in time; an unknown outcome is reported as one."""
    seen: list[tuple[str, str]] = []
    publisher = Publisher(Script(None, Never()), settled=lambda label, outcome, _: seen.append((label, outcome)))
    publisher.publish("t", key=b"k", value=b"v", label="a")
    publisher.publish("t", key=b"k", value=b"v", label="b")
    publisher.drain(timeout=0.01)
    assert _counts(publisher) == (1, 0, 1, 0)
    assert seen == [("a", "accepted"), ("b", "indeterminate")]


OUTCOMES = st.lists(
    st.sampled_from(
        [
            None,
            kafka_errors.MessageSizeTooLargeError(),
            kafka_errors.KafkaTimeoutError(),
            kafka_errors.OutOfOrderSequenceNumberError(),
            kafka_errors.NotEnoughReplicasAfterAppendError(),
        ]
    ),
    max_size=60,
)


@given(OUTCOMES, st.integers(1, 30))
def test_every_record_has_exactly_one_outcome_whatever_the_broker_answers(
    outcomes: list[Exception | None], records: int
) -> None:
    """Accepted, failed and indeterminate sum up to what was published, and `settled` is called once a record."""
    seen: list[int] = []
    publisher = Publisher(Script(*outcomes), settled=lambda label, *_: seen.append(label), max_records=7)
    for label in range(records):
        publisher.publish("t", key=b"k", value=b"v", label=label)
    publisher.drain()
    assert publisher.accepted + publisher.failed + publisher.indeterminate == records
    assert sorted(seen) == list(range(records))
    assert sum(error.records for error in publisher.errors.values()) == publisher.failed + publisher.indeterminate

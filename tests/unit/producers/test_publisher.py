"""Every record has exactly one outcome, whatever the broker does."""

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
    publisher = Publisher(lambda: Script())
    publisher.publish("t", key=b"k", value=b"v")
    publisher.flush()
    assert _counts(publisher) == (1, 0, 0, 0)


def test_a_record_that_is_refused_when_it_is_alone_has_failed() -> None:
    """Refused beside others or not, then again alone over a new producer: failed, with the broker's words."""
    producer = Script(*[kafka_errors.MessageSizeTooLargeError("5 MB")] * 2)
    publisher = Publisher(lambda: producer)
    publisher.publish("t", key=b"k", value=b"v")
    publisher.flush()
    assert _counts(publisher) == (0, 1, 0, 0)
    assert len(producer.sent) == 2
    assert "5 MB" in publisher.errors["MessageSizeTooLargeError"].first


@pytest.mark.parametrize("error", [kafka_errors.KafkaTimeoutError("60 s"), kafka_errors.RequestTimedOutError()])
def test_a_send_that_timed_out_is_indeterminate_and_neither_failed_nor_accepted(error: Exception) -> None:
    """Nobody knows whether a record whose send timed out was written, so nothing else is claimed."""
    publisher = Publisher(lambda: Script(error))
    publisher.publish("t", key=b"k", value=b"v")
    publisher.flush()
    assert _counts(publisher) == (0, 0, 1, 0)


def test_a_passing_error_is_retried_with_the_same_bytes_and_key() -> None:
    """A retry repeats topic, value, key, headers and partition, so a consumer can recognise it."""
    producer = Script(kafka_errors.OutOfOrderSequenceNumberError(), kafka_errors.NotLeaderForPartitionError())
    publisher = Publisher(lambda: producer)
    publisher.publish("t", key=b"k", value=b"v", headers=[("h", b"1")], partition=2)
    publisher.flush()
    assert _counts(publisher) == (1, 0, 0, 0)
    assert producer.sent == [("t", b"v", b"k", [("h", b"1")], 2)] * 3


def test_retries_are_bounded_and_end_indeterminate() -> None:
    """After three attempts it is over; since an attempt may have been written, the outcome is indeterminate."""
    producer = Script(*[kafka_errors.UnknownProducerIdError()] * 9)
    publisher = Publisher(lambda: producer)
    publisher.publish("t", key=b"k", value=b"v")
    publisher.flush()
    assert len(producer.sent) == 3
    assert _counts(publisher) == (0, 0, 1, 0)


def test_no_retry_after_the_time_is_used_up() -> None:
    """Time bounds the retries too."""
    now = [0.0]
    sending = Sending(kafka_errors.NotLeaderForPartitionError())
    producer = Script(sending)
    publisher = Publisher(lambda: producer, timeout=5.0, clock=lambda: now[0])
    publisher.publish("t", key=b"k", value=b"v")
    now[0] = 6.0
    publisher.poll()
    assert (len(producer.sent), publisher.indeterminate) == (1, 1)


def test_an_error_raised_by_send_itself_is_an_outcome_too() -> None:
    """kafka-python refuses a too large record by raising in `send`."""

    class Raising(Script):
        def send(self, topic, value, key, headers, partition):  # type: ignore[no-untyped-def]
            raise kafka_errors.MessageSizeTooLargeError("9 MB")

    publisher = Publisher(Raising)
    publisher.publish("t", key=b"k", value=b"v")
    assert _counts(publisher) == (0, 1, 0, 0)


@pytest.mark.parametrize(("max_records", "max_bytes"), [(3, 10**9), (10**9, 30)])
def test_no_more_than_the_bound_is_outstanding(max_records: int, max_bytes: int) -> None:
    """Records wait their turn when too many, or too many bytes, are under way."""
    producer = Script(*[Sending(None, done=False) for _ in range(50)])
    publisher = Publisher(lambda: producer, max_records=max_records, max_bytes=max_bytes)
    most = 0
    for _ in range(50):
        publisher.publish("t", key=b"k", value=b"0123456789")
        most = max(most, publisher.outstanding)
    assert most == 3
    publisher.flush()
    assert _counts(publisher) == (50, 0, 0, 0)


def test_what_gets_no_answer_becomes_indeterminate_when_draining_ends() -> None:
    """Draining is bounded in time; an unknown outcome is reported as one."""
    seen: list[tuple[str, str]] = []
    publisher = Publisher(
        lambda: Script(None, Never()), on_delivery=lambda label, outcome, _: seen.append((label, outcome))
    )
    publisher.publish("t", key=b"k", value=b"v", label="a")
    publisher.publish("t", key=b"k", value=b"v", label="b")
    publisher.flush(timeout=0.01)
    assert _counts(publisher) == (1, 0, 1, 0)
    assert seen == [("a", "accepted"), ("b", "indeterminate")]


class Spending:
    """Producers as kafka-python's idempotent one is: after a refusal, everything fails with the same error."""

    def __init__(self) -> None:
        self.log: list[bytes] = []
        self.connected = 0
        self.open = 0

    def connect(self) -> "Spending.Producer":
        self.connected += 1
        self.open += 1
        return Spending.Producer(self)

    def disconnect(self, producer: Any) -> None:
        self.open -= 1

    class Producer:
        def __init__(self, broker: "Spending") -> None:
            self.broker = broker
            self.waiting: list[tuple[bytes, Sending]] = []
            self.spent: Exception | None = None

        def send(self, topic, value, key, headers, partition):  # type: ignore[no-untyped-def]
            producer = self

            class Waiting(Sending):
                def get(self, timeout: float | None = None) -> Any:
                    producer.flush()

            sending = Waiting(None, done=False)
            self.waiting.append((value, sending))
            return sending

        def flush(self) -> None:
            for value, sending in self.waiting:
                if self.spent is None and value.startswith(b"bad"):
                    self.spent = kafka_errors.InvalidRecordError(value.decode())
                if self.spent is None:
                    self.broker.log.append(value)
                sending.exception = self.spent
                sending.is_done = True
            self.waiting.clear()


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 20))
def test_a_refused_record_fails_alone_though_it_takes_the_producer_with_it(bad: list[bool], max_records: int) -> None:
    """Exactly the bad records fail, each for its own reason, and the good ones are accepted, each written once."""
    broker = Spending()
    outcomes: dict[bytes, str] = {}
    values = [b"bad-%d" % n if is_bad else b"good-%d" % n for n, is_bad in enumerate(bad)]

    def settled(label: bytes, outcome: str, error: BaseException | None) -> None:
        outcomes[label] = outcome
        assert error is None or label.decode() in str(error)

    with Publisher(
        broker.connect, disconnect=broker.disconnect, on_delivery=settled, max_records=max_records
    ) as publisher:
        for value in values:
            publisher.publish("t", key=b"k", value=value, label=value)
        publisher.flush()
    assert outcomes == {value: "failed" if value.startswith(b"bad") else "accepted" for value in values}
    assert sorted(broker.log) == sorted(value for value in values if value.startswith(b"good"))
    assert (publisher.failed, publisher.indeterminate) == (sum(bad), 0)
    assert broker.open == 0


def test_when_no_new_connection_comes_what_is_in_doubt_is_indeterminate() -> None:
    """And the next publish says that there is no broker."""
    connections = [Script(kafka_errors.OutOfOrderSequenceNumberError())]

    def connect() -> Script:
        if not connections:
            raise kafka_errors.KafkaTimeoutError("no broker")
        return connections.pop()

    publisher = Publisher(connect)
    publisher.publish("t", key=b"k", value=b"v")
    publisher.flush()
    assert _counts(publisher) == (0, 0, 1, 0)
    with pytest.raises(kafka_errors.KafkaTimeoutError, match="no broker"):
        publisher.publish("t", key=b"k", value=b"v")


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
    publisher = Publisher(lambda: Script(*outcomes), on_delivery=lambda label, *_: seen.append(label), max_records=7)
    for label in range(records):
        publisher.publish("t", key=b"k", value=b"v", label=label)
    publisher.flush()
    assert publisher.accepted + publisher.failed + publisher.indeterminate == records
    assert sorted(seen) == list(range(records))
    assert sum(error.records for error in publisher.errors.values()) == publisher.failed + publisher.indeterminate


@pytest.mark.parametrize(
    ("attempts", "interrupted", "published"), [(3, False, True), (30, False, False), (3, True, False)]
)
def test_the_next_record_waits_for_a_broker_that_is_away(attempts: int, interrupted: bool, published: bool) -> None:
    """Each attempt to connect takes 10 s and the patience is 100 s; who interrupts need not wait."""
    now, away = [0.0], [attempts]

    def connect() -> Script:
        if now[0] == 0:
            return Script(kafka_errors.InvalidTimestampError("spent"), kafka_errors.InvalidTimestampError("spent"))
        if away[0]:
            away[0] -= 1
            now[0] += 10
            raise kafka_errors.KafkaTimeoutError("Unable to bootstrap")
        return Script()

    publisher = Publisher(connect, connect_timeout=100.0, interrupted=lambda: interrupted, clock=lambda: now[0])
    publisher.publish("t", key=b"1", value=b"refused")
    publisher.poll()
    assert publisher.failed == 1
    now[0] = 1.0
    if published:
        publisher.publish("t", key=b"2", value=b"good")
        publisher.flush()
        assert publisher.accepted == 1
    else:
        with pytest.raises(kafka_errors.KafkaTimeoutError):
            publisher.publish("t", key=b"2", value=b"good")
        assert now[0] < 120


def test_a_producer_that_stalled_is_replaced_and_nothing_waits_for_ever() -> None:
    """Long after its time-out the oldest record has no outcome: it is indeterminate, and the younger is sent again."""
    now = [0.0]
    producers = [Script(Never(), Never()), Script()]
    publisher = Publisher(lambda: producers.pop(0), timeout=10.0, clock=lambda: now[0])
    publisher.publish("t", key=b"old", value=b"1")
    now[0] = 9.0
    publisher.publish("t", key=b"young", value=b"2")
    publisher.poll()
    assert _counts(publisher) == (0, 0, 0, 2)

    now[0] = 13.0
    publisher.poll()
    publisher.flush()

    assert _counts(publisher) == (1, 0, 1, 0)
    assert producers == []
    assert "stalled" in publisher.errors["TimeoutError"].first

"""The publisher: all outputs of a slice are acknowledged, or the slice is not."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import given
from hypothesis import strategies as st

from stream_app.transport.producer import Output, Publisher, _Unit

ERROR = KafkaError(KafkaError._MSG_TIMED_OUT)
# Nobody listens there.
NOWHERE = {"bootstrap.servers": "127.0.0.1:1", "delivery.timeout.ms": 300, "linger.ms": 0, "log_level": 0}


@given(st.lists(st.sampled_from([None, ERROR]), min_size=1, max_size=20))
def test_a_unit_is_done_with_its_last_report(reports: list[KafkaError | None]) -> None:
    """Once, and with an error if any of its outputs had one."""
    outcome: list[KafkaError | None] = []
    unit = _Unit(len(reports), outcome.append)
    for report in reports:
        assert not outcome
        unit(report, None)  # type: ignore[arg-type]
    assert len(outcome) == 1
    assert (outcome[0] is ERROR) == any(report is ERROR for report in reports)


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    monkeypatch.setattr("stream_app.transport.producer.FLUSH_SECONDS", 10.0)
    publisher = Publisher(NOWHERE)
    yield publisher
    publisher.stop()


class Outcome:
    """What `done` was called with, and by whom."""

    def __init__(self) -> None:
        self.errors: list[KafkaError | None] = []
        self.threads: list[str] = []
        self._called = threading.Event()

    def __call__(self, error: KafkaError | None) -> None:
        self.errors.append(error)
        self.threads.append(threading.current_thread().name)
        self._called.set()

    def wait(self) -> None:
        assert self._called.wait(20)


def test_nothing_to_publish_is_done_at_once(publisher: Publisher) -> None:
    """A slice without outputs may be committed."""
    done = Outcome()
    publisher.publish([], done)
    assert done.errors == [None]


def test_a_broker_that_never_answers_is_an_error(publisher: Publisher) -> None:
    """Reported once for all outputs, from the thread of the reports, with nobody polling."""
    done = Outcome()
    publisher.publish([Output("results", b"k", b"v", [("h", b"1")]), Output("logs", None, b"v")], done)
    assert publisher.unacknowledged() >= 2
    done.wait()
    assert [error.code() for error in done.errors if error is not None] == [KafkaError._MSG_TIMED_OUT]
    assert done.threads == ["inflight-reports"]


def test_a_record_above_the_limit_is_an_error_at_once(publisher: Publisher) -> None:
    """It is a bug of ours: what is written is bounded by what is read."""
    with pytest.raises(KafkaException) as caught:
        publisher.publish([Output("results", b"k", b"x" * 2_000_000)], Outcome())
    assert caught.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE


def test_a_full_queue_blocks_until_there_is_room() -> None:
    """Memory stays bounded however much is published to a broker that is away; nothing is dropped in silence."""
    options: dict[str, Any] = {**NOWHERE, "queue.buffering.max.messages": 10}
    publisher = Publisher(options)
    outcomes = [Outcome() for _ in range(50)]
    for outcome in outcomes:
        publisher.publish([Output("results", b"k", b"v")], outcome)
        # The client counts its own errors, such as a refused connection, until they are reported.
        assert publisher.unacknowledged() < 20
    for outcome in outcomes:
        outcome.wait()
        assert len(outcome.errors) == 1
        assert outcome.errors[0] is not None
    assert publisher.stop() == 0

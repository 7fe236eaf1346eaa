"""The publisher: all outputs of a batch are acknowledged, or the batch is not."""

import threading
from collections.abc import Iterator
from time import monotonic, sleep
from typing import Any

import pytest
from confluent_kafka import KafkaError

from stream_app.kafka.publisher import Publisher
from stream_app.serving.outputs import OutputRecord

# Nobody listens there.
NOWHERE = {
    "bootstrap.servers": "127.0.0.1:1",
    "delivery.timeout.ms": 300,
    "log_level": 0,
}
# For tests that look at what is in flight, before it times out.
LONG = {**NOWHERE, "delivery.timeout.ms": 2_000}


def wait_until_idle(publisher: Publisher) -> None:
    """Wait until nothing is unacknowledged or in flight."""
    deadline = monotonic() + 30
    while publisher.unacknowledged() or publisher._in_flight:
        assert monotonic() < deadline
        sleep(0.01)


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    publisher = Publisher(LONG)
    yield publisher
    wait_until_idle(publisher)


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
        assert self._called.wait(120)


def test_nothing_to_publish_is_done_at_once(publisher: Publisher) -> None:
    """A batch without outputs may be committed."""
    done = Outcome()
    publisher.publish({"results": [], "logs": []}, 0, done)
    assert done.errors == [None]


def test_a_broker_that_never_answers_is_an_error(publisher: Publisher) -> None:
    """Reported once for all outputs, from the publisher's thread, without any other poll."""
    done = Outcome()
    outputs = {
        "results": [(b"k", b"v", [("h", b"1")]), (b"k", b"v", None)],
        "logs": [(None, b"v", None)],
    }
    publisher.publish(outputs, 0, done)
    assert publisher.unacknowledged() >= 3
    done.wait()
    assert [error.code() for error in done.errors if error is not None] == [KafkaError._MSG_TIMED_OUT]
    assert done.threads == ["inflight-publisher"]


@pytest.mark.parametrize("headers", [None, [("h", b"1")]], ids=["plain", "with-headers"])
def test_a_record_above_the_limit_is_an_error(publisher: Publisher, headers: Any) -> None:
    """It is a bug of ours: what is written is bounded by what is read. The others of its batch can't help it."""
    done = Outcome()
    records: list[OutputRecord] = [(b"k", b"v", None), (b"k", b"x" * 2_000_000, headers)]
    publisher.publish({"results": records}, 0, done)
    done.wait()
    assert len(done.errors) == 1
    assert done.errors[0] is not None


def test_the_next_batch_gathers_while_one_is_in_flight(publisher: Publisher) -> None:
    """Only the first is handed to the client; all are reported, each once, in order."""
    outcomes = [Outcome() for _ in range(5)]
    for outcome in outcomes:
        publisher.publish({"results": [(b"k", b"v", None)] * 10}, 0, outcome)
    assert len(publisher._waiting) == 4
    assert publisher.unacknowledged() >= 50
    for outcome in outcomes:
        outcome.wait()
    assert [len(outcome.errors) for outcome in outcomes] == [1] * 5


def test_a_full_queue_blocks_until_there_is_room() -> None:
    """Memory stays bounded however much is published to an unreachable broker; nothing is dropped silently."""
    options: dict[str, Any] = {**NOWHERE, "queue.buffering.max.messages": 10}
    publisher = Publisher(options)
    for headers in (None, [("h", b"1")]):
        outcome = Outcome()
        publisher.publish({"results": [(b"k", b"v", headers) for _ in range(50)]}, 0, outcome)
        # The client counts its own errors, such as a refused connection, until they are reported.
        assert len(publisher._producer) < 20
        outcome.wait()
        assert len(outcome.errors) == 1
        assert outcome.errors[0] is not None
    wait_until_idle(publisher)


def test_a_thread_that_fails_says_so() -> None:
    """Nothing is acknowledged any more; the watchdog ends the process, which would otherwise wait for the timeout."""
    # Not that of the fixture: without its thread, nobody takes the errors of the connection, which count as in flight.
    publisher = Publisher(LONG)
    assert publisher.failure is None
    publisher._producer = Failing()
    publisher._thread.join(60)
    assert str(publisher.failure) == "failed"


def test_a_client_that_has_forgotten_all_brokers_is_a_failure() -> None:
    """Its outputs would wait until they time out."""
    # Without bootstrap servers, librdkafka knows no broker from the start.
    publisher = Publisher({"log_level": 0, "statistics.interval.ms": 50})
    publisher._thread.join(60)
    assert type(publisher.failure).__name__ == "NoBrokersLeftError"


class Failing:
    def poll(self, _: float) -> None:
        raise RuntimeError("failed")

    def __len__(self) -> int:
        return 0

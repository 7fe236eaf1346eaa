"""The consumer thread, without a broker."""

from time import monotonic
from typing import Any

import pytest
from confluent_kafka import KafkaException

from stream_app.kafka.poller import KafkaPoller
from stream_app.serving.batch import TP


class UnusedListener:
    """Nothing is assigned without a broker."""

    def on_records(self) -> None:
        raise AssertionError("there are no records")

    def on_assigned(self, tps: set[TP]) -> None:
        raise AssertionError("there are no partitions")

    def on_revoked(self, tps: set[TP]) -> dict[TP, int]:
        raise AssertionError("there are no partitions")

    def on_lost(self, tps: set[TP]) -> None:
        raise AssertionError("there are no partitions")

    def on_failed(self, error: BaseException) -> None:
        self.failed = error


@pytest.fixture
def listener() -> UnusedListener:
    return UnusedListener()


@pytest.fixture
def poller(listener: UnusedListener) -> Any:
    options = {"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0}
    poller = KafkaPoller(options, listener, max_records=10, max_bytes=10_000)
    yield poller
    poller.stop()


def test_it_polls_between_two_calls(poller: KafkaPoller) -> None:
    """Each may take half a minute while the broker is unreachable; without polls the worker would look stalled."""
    first, second = poller.call(lambda _: monotonic()), poller.call(lambda _: poller.last_poll)
    poller.start()
    assert second.result(60) > first.result(60)


def test_a_call_that_fails_does_not_end_it(poller: KafkaPoller) -> None:
    """Its error is its caller's."""
    failing = poller.call(lambda consumer: consumer.committed([], timeout="soon"))
    poller.start()
    with pytest.raises((KafkaException, TypeError)):
        failing.result(60)
    assert poller.call(lambda _: "alive").result(60) == "alive"


def test_it_refuses_all_calls_when_it_has_failed(poller: KafkaPoller, listener: UnusedListener) -> None:
    """Those that wait, and later ones: nothing else would ever complete them."""

    def fail() -> None:
        raise RuntimeError("fatal")

    poller._poll = fail  # type: ignore[method-assign]
    waiting = [poller.call(lambda _: "alive") for _ in range(3)]
    poller.start()
    for answer in [*waiting, poller.call(lambda _: "alive")]:
        assert isinstance(answer.exception(60), KafkaException)
    poller.join(60)
    assert str(listener.failed) == "fatal"
    with pytest.raises(KafkaException, match="has ended"):
        poller.call(lambda _: "alive").result(0)


def test_it_refuses_calls_when_it_was_stopped(poller: KafkaPoller) -> None:
    """A query of the offsets may come late."""
    poller.start()
    poller.stop()
    assert isinstance(poller.call(lambda _: "alive").exception(0), KafkaException)


def test_it_ends_when_librdkafka_has_forgotten_all_brokers(listener: UnusedListener) -> None:
    """It would poll for ever and get nothing; the process ends, and the next one connects."""
    # Without bootstrap servers, librdkafka knows no broker from the start.
    options = {"group.id": "g", "log_level": 0}
    poller = KafkaPoller(options, listener, max_records=10, max_bytes=10_000, statistics_interval=0.01)
    poller.start()
    poller.join(60)
    assert type(listener.failed).__name__ == "NoBrokersLeftError"


def test_an_unreachable_broker_does_not_end_it(listener: UnusedListener) -> None:
    """It comes back."""
    options = {"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0}
    poller = KafkaPoller(options, listener, max_records=10, max_bytes=10_000, statistics_interval=0.01)
    poller.start()
    poller.join(1.0)
    assert poller.is_alive()
    poller.stop()


def test_what_the_statistics_raise_comes_out_of_the_poll(listener: UnusedListener) -> None:
    """librdkafka calls back from within it."""

    def refuse(_: dict[str, Any]) -> None:
        raise RuntimeError("refused")

    options = {"bootstrap.servers": "127.0.0.1:1", "group.id": "g", "log_level": 0}
    poller = KafkaPoller(
        options, listener, max_records=10, max_bytes=10_000, on_statistics=refuse, statistics_interval=0.01
    )
    poller.start()
    poller.join(60)
    assert str(listener.failed) == "refused"

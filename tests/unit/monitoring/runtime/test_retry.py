"""How long a call to an unavailable broker is retried."""

import threading

import pytest
from confluent_kafka import KafkaError, KafkaException

from monitoring.runtime import retry
from monitoring.runtime.retry import ATTEMPT_SECONDS, STOP_SECONDS, Retry


class Broker:
    """Responds after some calls, each of which takes its whole timeout; `stopping` is set at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers_at: int, *, retriable: bool = True) -> None:
        self.calls = 0
        self.stopping = threading.Event()
        self.stop_at = -1
        self._answers_at, self._retriable = answers_at, retriable
        monkeypatch.setattr(retry, "monotonic", lambda: self.calls * ATTEMPT_SECONDS)

    def call(self, _argument: str, timeout: float) -> None:
        assert timeout == ATTEMPT_SECONDS
        self.calls += 1
        if self.calls == self.stop_at:
            self.stopping.set()
        if self.calls < self._answers_at:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "unavailable", retriable=self._retriable))


def test_a_call_is_repeated_until_the_broker_responds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or until the timeout."""
    broker = Broker(monkeypatch, answers_at=20)
    Retry(300.0, broker.stopping)(broker.call, "argument")
    assert broker.calls == 20
    broker = Broker(monkeypatch, answers_at=1_000)
    with pytest.raises(KafkaException):
        Retry(300.0, broker.stopping)(broker.call, "argument")
    assert broker.calls == 151


def test_a_stopping_process_waits_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM arrives while the broker is unavailable."""
    broker = Broker(monkeypatch, answers_at=1_000)
    broker.stop_at = 3
    with pytest.raises(KafkaException):
        Retry(300.0, broker.stopping)(broker.call, "argument")
    assert broker.calls == STOP_SECONDS / ATTEMPT_SECONDS + 1


def test_a_permanent_error_is_raised_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fenced producer, for example."""
    broker = Broker(monkeypatch, answers_at=9, retriable=False)
    with pytest.raises(KafkaException):
        Retry(300.0, broker.stopping)(broker.call, "argument")
    assert broker.calls == 1

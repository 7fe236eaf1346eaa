"""How long a broker that is away is waited for."""

import threading

import pytest
from confluent_kafka import KafkaError, KafkaException

from monitoring.runtime import retry_call as insisting
from monitoring.runtime.retry_call import ANSWER_SECONDS, STOP_SECONDS, Insistence


class Broker:
    """Answers after so many calls, each of which takes its whole time-out; `stop` is set at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers_at: int, *, retriable: bool = True) -> None:
        self.calls = 0
        self.stopping = threading.Event()
        self.stop_at = -1
        self._answers_at, self._retriable = answers_at, retriable
        monkeypatch.setattr(insisting, "monotonic", lambda: self.calls * ANSWER_SECONDS)

    def call(self, _argument: str, timeout: float) -> None:
        assert timeout == ANSWER_SECONDS
        self.calls += 1
        if self.calls == self.stop_at:
            self.stopping.set()
        if self.calls < self._answers_at:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "away", retriable=self._retriable))


def test_a_call_is_made_until_there_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or until patience is at its end."""
    broker = Broker(monkeypatch, answers_at=20)
    Insistence(300.0, broker.stopping)(broker.call, "argument")
    assert broker.calls == 20
    broker = Broker(monkeypatch, answers_at=1_000)
    with pytest.raises(KafkaException):
        Insistence(300.0, broker.stopping)(broker.call, "argument")
    assert broker.calls == 151


def test_who_is_to_stop_does_not_wait_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM comes while the broker is away."""
    broker = Broker(monkeypatch, answers_at=1_000)
    broker.stop_at = 3
    with pytest.raises(KafkaException):
        Insistence(300.0, broker.stopping)(broker.call, "argument")
    assert broker.calls == STOP_SECONDS / ANSWER_SECONDS + 1


def test_what_retrying_does_not_mend_is_raised_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fenced producer, for example."""
    broker = Broker(monkeypatch, answers_at=9, retriable=False)
    with pytest.raises(KafkaException):
        Insistence(300.0, broker.stopping)(broker.call, "argument")
    assert broker.calls == 1

"""How a process waits at its start for what is away."""

import threading
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from elastic_transport import ApiResponseMeta, HttpHeaders, NodeConfig
from elasticsearch import ApiError, ConnectionTimeout

from monitoring.runtime import retry
from monitoring.runtime.retry import backoff_seconds, error_label, run_until_ready


def refused(status: int) -> ApiError:
    meta = ApiResponseMeta(status, "1.1", HttpHeaders(), 0.0, NodeConfig("http", "localhost", 9200))
    return ApiError("no", meta, None)


class Steps:
    """Fails with each of the errors in turn, then works."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> None:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.0)
    monkeypatch.setattr(retry, "log_event", lambda *what, **fields: found.append((*what, fields)))
    return found


def test_it_waits_for_whatever_is_away(logged: list[Any]) -> None:
    """A broker, topics without a leader, Elasticsearch; it is logged once."""
    away = KafkaException(KafkaError(KafkaError._TRANSPORT, "Broker transport failure"))
    steps = Steps(away, TimeoutError("no leader"), ConnectionTimeout("slow"), refused(503), refused(429))
    run_until_ready("label-joiner", steps, threading.Event())
    assert steps.calls == 6
    assert logged == [("label-joiner", "waiting", {"cause": "Broker transport failure"})]


def test_a_refusal_for_good_is_an_error(logged: list[Any]) -> None:
    """A wrong password does not mend itself."""
    with pytest.raises(ApiError):
        run_until_ready("label-joiner", Steps(refused(401)), threading.Event())
    assert logged == []


def test_it_ends_when_the_process_is_to_end(logged: list[Any]) -> None:
    """The steps are not tried again."""
    stopping = threading.Event()

    def steps() -> None:
        stopping.set()
        raise TimeoutError("no leader")

    run_until_ready("label-joiner", steps, stopping)
    assert logged == [("label-joiner", "waiting", {"cause": "no leader"})]


def test_the_waits_grow_to_a_limit() -> None:
    """However often it was tried."""
    assert 0.1 <= backoff_seconds(0) <= 0.2
    assert 5.0 <= backoff_seconds(1_000_000) <= 10.0


def test_causes_are_words() -> None:
    """Not the names of a client's classes where it has something to say."""
    assert error_label(refused(503)) == "503"
    assert error_label(ConnectionTimeout("slow")) == "ConnectionTimeout"

"""The client of a process that is to end: it waits for a Elasticsearch that hangs a moment, and no longer."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from elasticsearch import ConnectionTimeout, Elasticsearch

from inflight.settings import Settings
from monitoring.elastic import client as elastic


class Hanging:
    """Answers nothing until it is told to."""

    def __init__(self) -> None:
        self.answering = threading.Event()
        self.asked = threading.Event()

    def perform_request(self, *_: Any, **__: Any) -> str:
        self.asked.set()
        assert self.answering.wait(30)
        return "the answer"


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    found = Hanging()
    monkeypatch.setattr(Elasticsearch, "perform_request", found.perform_request)
    monkeypatch.setattr(elastic, "STOP_SECONDS", 0.2)
    yield found
    found.answering.set()


def test_a_request_that_hangs_is_given_up_when_the_process_is_to_end(node: Hanging) -> None:
    """As a request that timed out: whoever tries it again looks whether there is a point in it."""
    stopping = threading.Event()
    with elastic.connect(Settings(), stopping=stopping) as client:
        threading.Thread(target=lambda: node.asked.wait(30) and stopping.set(), daemon=True).start()
        with pytest.raises(ConnectionTimeout) as error:
            client.perform_request("GET", "/")
        assert error.value.message == "abandoned because the process stops"
        # The moment is over for all: the next one is not given another.
        with pytest.raises(ConnectionTimeout):
            client.perform_request("GET", "/")


def test_a_slow_answer_is_an_answer(node: Hanging) -> None:
    """As long as nothing is to end, the time-out is that of the request."""
    with elastic.connect(Settings(), stopping=threading.Event()) as client:
        threading.Timer(0.5, node.answering.set).start()
        assert client.perform_request("GET", "/") == "the answer"


def test_an_error_is_raised_where_the_request_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in the thread that waited for it."""

    def refused(*_: Any, **__: Any) -> None:
        raise ConnectionTimeout("a time-out of its own")

    monkeypatch.setattr(Elasticsearch, "perform_request", refused)
    with elastic.connect(Settings(), stopping=threading.Event()) as client:
        with pytest.raises(ConnectionTimeout) as error:
            client.perform_request("GET", "/")
        assert error.value.message == "a time-out of its own"

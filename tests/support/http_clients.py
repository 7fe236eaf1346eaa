"""Clients of the gateway as its users write them: `http.client`, a key for each request, and a retry of what failed."""

import http.client
import json
import threading
import time
from typing import Any, NamedTuple

RETRIED = (409, 429, 503, 504)


class Answer(NamedTuple):
    """A response, with its problem or content decoded; `status` 0 means that there was none."""

    status: int
    body: Any
    headers: dict[str, str]


def call(
    port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None, timeout: float = 30.0
) -> Answer:
    """One request over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    content = None if body is None else json.dumps(body)
    sent = ({} if body is None else {"Content-Type": "application/json"}) | (headers or {})
    try:
        connection.request(method, path, content, sent)
        response = connection.getresponse()
        raw = response.read()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, json.loads(raw) if raw else None, found)
    except (OSError, http.client.HTTPException, ValueError):
        return Answer(0, None, {})
    finally:
        connection.close()


class Event(NamedTuple):
    """What one request met: when it began and ended (monotonic)."""

    began: float
    at: float
    status: int


class Users(threading.Thread):
    """Users of some gateways who send diamonds one by one until they are stopped, each with a key, retried until it has
    an answer.

    `answers` has the answer to each id; `events` every response.
    """

    def __init__(
        self, name: str, ports: list[int], rows: list[dict[str, Any]], pause: float = 0.0, wait: int = 2
    ) -> None:
        super().__init__(name=name, daemon=True)
        self.answers: dict[str, Any] = {}
        self.events: list[Event] = []
        self.stopping = threading.Event()
        self._ports = ports
        self._rows = rows
        self._pause = pause
        self._wait = wait
        self.failure: BaseException | None = None

    def run(self) -> None:
        number = 0
        try:
            while not self.stopping.is_set():
                self._ask(f"{self.name}-{number}", self._rows[number % len(self._rows)], number)
                number += 1
                time.sleep(self._pause)
        except BaseException as error:
            self.failure = error

    def _ask(self, request_id: str, row: dict[str, Any], number: int) -> None:
        deadline = time.monotonic() + 300
        turn = number
        while True:
            port = self._ports[turn % len(self._ports)]
            turn += 1
            headers = {"Idempotency-Key": request_id, "Prefer": f"wait={self._wait}"}
            began = time.monotonic()
            answer = call(port, "POST", "/v1/diamonds/value", row, headers)
            self.events.append(Event(began, time.monotonic(), answer.status))
            if answer.status == 200:
                assert answer.body["request_id"] == request_id
                self.answers[request_id] = answer.body
                return
            assert answer.status == 0 or answer.status in RETRIED, answer
            assert time.monotonic() < deadline, f"{request_id} has no answer: {answer}"
            time.sleep(0.05)

    def stop(self) -> None:
        """Send no more, and wait for the answer to the last."""
        self.stopping.set()
        self.join(400)
        assert not self.is_alive()
        assert self.failure is None, self.failure

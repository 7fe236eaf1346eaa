"""The demo's callers over HTTP: each request is answered once, whatever happens on the way."""

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest

from inflight.demo.callers import NotAnswered, post_diamonds
from inflight.stack.process import usable_port

ROWS = [{"carat": number / 100} for number in range(60)]


class Gateway(BaseHTTPRequestHandler):
    """Answers a request the second time it comes; the first time it is busy, or closes the connection."""

    protocol_version = "HTTP/1.1"
    seen: ClassVar[Counter[str]] = Counter()
    lock: ClassVar[threading.Lock] = threading.Lock()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        key = self.headers["Idempotency-Key"]
        with self.lock:
            self.seen[key] += 1
            number = self.seen[key]
        if number == 1 and key.endswith("7"):
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        status = 422 if "wrong" in key else 200 if number > 1 and "never" not in key else 503
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    Gateway.seen = Counter()
    with ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_each_row_is_answered_once_with_its_own_key(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inflight.demo.callers._RETRY_SECONDS", 0.001)
    answers: list[int] = []
    post_diamonds(port, ROWS, "demo-http-", answers.append)
    assert sum(answers) == len(ROWS)
    assert len(Gateway.seen) == len(ROWS)
    assert set(Gateway.seen.values()) == {2}
    assert all(key.startswith("demo-http-") for key in Gateway.seen)


def test_an_error_ends_it_and_is_named(port: int) -> None:
    with pytest.raises(NotAnswered, match=r"wrong.* with status 422"):
        post_diamonds(port, ROWS[:1], "wrong-")


def test_nobody_answers(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inflight.demo.callers.ANSWER_SECONDS", 1.0)
    with pytest.raises(NotAnswered, match=r"has not answered .*-000 within 1 s: status 503"):
        post_diamonds(port, ROWS[:1], "never-")


def test_a_port_that_is_taken_is_not_used(port: int) -> None:
    """The wanted one if it is free, else another one."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        wanted = free.getsockname()[1]
    assert usable_port(wanted) == wanted
    assert usable_port(port) not in (0, port)
    assert usable_port(0) != 0

"""The server of metrics under clients that mean it no good."""

import socket
import threading
from contextlib import ExitStack
from urllib.request import urlopen

import pytest

from machine_learning_engineering.observability import metrics_server
from machine_learning_engineering.observability.metrics_server import MAX_CONNECTIONS, start_metrics_server


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"up 1\n"]


@pytest.fixture
def port(monkeypatch):
    monkeypatch.setattr(metrics_server, "MAX_SECONDS", 1.0)
    server, thread = start_metrics_server(app, "127.0.0.1", 0)
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def read(port: int) -> bytes:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as response:
        return response.read()


def test_metrics_are_served(port):
    assert read(port) == b"up 1\n"


def test_silent_clients_take_a_bounded_number_of_threads_and_are_cut(port):
    before = threading.active_count()
    with ExitStack() as opened:
        clients = [
            opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            for _ in range(4 * MAX_CONNECTIONS)
        ]
        for client in clients[MAX_CONNECTIONS:]:
            assert client.recv(1) == b""  # Closed at once.
        assert threading.active_count() - before <= MAX_CONNECTIONS
        for client in clients[:MAX_CONNECTIONS]:
            client.sendall(b"GET /metrics HTTP/1.0\r\n")  # Never finished.
        for client in clients[:MAX_CONNECTIONS]:
            assert client.recv(1) == b""  # Cut after `MAX_SECONDS`.
    assert read(port) == b"up 1\n"


def test_a_taken_port_is_an_error(port):
    with pytest.raises(OSError, match="in use"):
        start_metrics_server(app, "127.0.0.1", port)

"""The server's own limits, over real sockets: silent clients, slow ones, and too many of them."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from producers.gateway.bodies import Limits, read_body
from producers.gateway.problems import Problem
from producers.gateway.server import PortInUse, Server, listen, new_server

LIMITS = Limits(1_000, 10, 0.3)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the size of the body, or with the problem."""
    try:
        response: Response = PlainTextResponse(str(len(await read_body(Request(scope, receive), LIMITS))))
    except Problem as problem:
        response = problem.response()
    await response(scope, receive, send)


async def hang(scope: Scope, receive: Receive, send: Send) -> None:
    """Never answers."""
    await asyncio.sleep(600)


@contextmanager
def serving(app: ASGIApp = echo, connections: int = 20, drain: float = 1.0) -> Iterator[tuple[int, Server]]:
    """A server in a thread."""
    server = new_server(app, connections=connections, header_seconds=0.3, drain_seconds=drain)
    with listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield listening.getsockname()[1], server
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def read(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    found = b""
    while chunk := connection.recv(65_536):
        found += chunk
    return found


def test_a_whole_request() -> None:
    with serving() as (port, _), connect(port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nConnection: close\r\n\r\n12345")
        assert read(connection).endswith(b"\r\n\r\n5")


@pytest.mark.parametrize("start", [b"", b"POST / HTTP/1.1\r\nHost: h\r\n", b"P"])
def test_who_sends_no_headers_is_cut_off(start: bytes) -> None:
    """Also one that sends a byte now and then."""
    with serving() as (port, _), connect(port) as connection:
        connection.sendall(start)
        started = time.monotonic()
        assert read(connection) == b""
        assert time.monotonic() - started < 5


def test_slow_headers_of_a_second_request() -> None:
    with serving() as (port, _), connect(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert b"200 OK" in connection.recv(65_536)
        connection.sendall(b"GET / HTTP/1.1\r\n")
        assert read(connection) == b""


def test_a_slow_body_is_408_and_the_end_of_the_connection() -> None:
    with serving() as (port, _), connect(port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 500\r\n\r\n1")
        found = read(connection)
        assert found.startswith(b"HTTP/1.1 408")
        assert b"urn:inflight:problem:body-timeout" in found


def test_a_large_chunked_body_is_refused_while_it_comes() -> None:
    with serving() as (port, _), connect(port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"7d0\r\n" + b"x" * 2_000 + b"\r\n")
        assert read(connection).startswith(b"HTTP/1.1 413")


def test_too_many_connections_are_refused_politely() -> None:
    """Those that are open go on, and there is room again once they end."""
    with serving(connections=5) as (port, _):
        idle = [connect(port) for _ in range(5)]
        time.sleep(0.05)
        with connect(port) as refused:
            found = read(refused)
        assert found.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1" in found
        for connection in idle:
            connection.close()
        deadline = time.monotonic() + 10
        while True:
            with connect(port) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                if b"200 OK" in read(connection):
                    break
            assert time.monotonic() < deadline


def test_it_ends_within_the_drain_time_whoever_waits() -> None:
    with serving(hang, drain=1.0) as (port, server), connect(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        deadline = time.monotonic() + 10
        while not server.server_state.tasks:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        started = time.monotonic()
        server.should_exit = True
        read(connection)
        assert time.monotonic() - started < 5


def test_a_port_that_is_taken() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(PortInUse, match="INFLIGHT_GATEWAY_PORT"):
            listen("127.0.0.1", port)

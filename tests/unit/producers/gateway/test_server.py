"""The server's own limits, over real sockets: silent clients, slow ones, and too many of them."""

import asyncio
import json
import re
import resource
import socket
import time

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from producers.gateway.server import MAX_PIPELINED, PortInUse, listen
from tests.support.http_server import connect, hang, read, serving

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers after a while with the path."""
    await asyncio.sleep(0.4)
    await PlainTextResponse(scope["path"])(scope, receive, send)


async def large(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with 64 MiB."""
    await PlainTextResponse(bytes(64 << 20))(scope, receive, send)


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers at once, and never looks at the body."""
    await PlainTextResponse("no", 404)(scope, receive, send)


def statuses(found: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", found)]


def send_until_refused(connection: socket.socket, piece: bytes, most: int, pause: float = 0.0) -> int:
    """Send pieces until the other side ends the connection; the number of bytes that went out."""
    sent = 0
    try:
        while sent < most:
            sent += connection.send(piece)
            time.sleep(pause)
    except ConnectionError:
        return sent
    pytest.fail(f"{sent:,} bytes were taken")


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
        answer = b""
        while not answer.endswith(b"\r\n\r\n0"):
            answer += connection.recv(65_536)
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


@pytest.mark.parametrize(
    "start",
    [
        b"GET / HTTP/1.1\r\n" + b"A: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
    ],
    ids=["value", "address", "number"],
)
def test_large_headers_are_431(start: bytes) -> None:
    with serving() as (port, _), connect(port) as connection:
        connection.sendall(start)
        found = read(connection)
    assert statuses(found) == [431]
    assert json.loads(found.partition(b"\r\n\r\n")[2])["type"] == "urn:inflight:problem:headers-too-large"


def test_headers_without_end_take_no_memory() -> None:
    """A client that sends them as fast as it can is refused long before its time is up."""
    with serving() as (port, _), connect(port) as connection:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        connection.sendall(b"GET / HTTP/1.1\r\nA: ")
        sent = send_until_refused(connection, b"x" * 65_536, 1 << 30)
        # What is in the buffers of the system.
        assert sent < 64 << 20
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost : h\r\n\r\n",
    ],
)
def test_what_is_not_http_is_a_problem(sent: bytes) -> None:
    """Also wrong lengths, and two that contradict each other, by which requests are smuggled past proxies."""
    with serving() as (port, _), connect(port) as connection:
        connection.sendall(sent)
        found = read(connection)
    assert statuses(found) == [400]
    assert json.loads(found.partition(b"\r\n\r\n")[2])["type"] == "urn:inflight:problem:malformed-request"


def test_a_body_longer_than_it_says() -> None:
    """The request is answered, and what follows it is no request."""
    with serving() as (port, _), connect(port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n12345678\r\n\r\n")
        found = read(connection)
    assert statuses(found)[0] == 200
    assert b"\r\n\r\n5" in found


def test_pipelined_requests_are_answered_in_their_order() -> None:
    with serving(slow) as (port, _), connect(port) as connection:
        for path in (b"/a", b"/b"):
            connection.sendall(GET.replace(b"/ ", path + b" "))
        connection.sendall(b"GET /c HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        found = read(connection)
    assert statuses(found) == [200] * 3
    assert found.index(b"/a") < found.index(b"/b") < found.index(b"/c")


def test_too_many_pipelined_requests_end_the_connection() -> None:
    """Those that are taken are answered."""
    with serving(slow) as (port, _), connect(port) as connection:
        connection.sendall(GET * 1_000)
        found = read(connection)
    assert statuses(found) == [200] * (MAX_PIPELINED + 1)


def test_nonsense_after_a_request_does_not_take_its_answer() -> None:
    with serving(slow) as (port, _), connect(port) as connection:
        connection.sendall(GET + b"nonsense\r\n\r\n")
        found = read(connection)
    assert statuses(found) == [200]


@pytest.mark.parametrize("size", [10_000_000, 10_000_000_000])
def test_a_client_that_still_sends_gets_its_answer(size: int) -> None:
    """A connection that is closed with bytes in it is reset: the client would see no answer."""
    with serving(refuse) as (port, _), connect(port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size)
        connection.sendall(bytes(10_000_000))
        found = connection.recv(65_536)
    assert statuses(found) == [404]
    assert b"connection: close" in found


def test_a_body_without_end_does_not_hold_a_connection() -> None:
    """A byte now and then, after the answer."""
    with serving(refuse) as (port, _), connect(port) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        started = time.monotonic()
        send_until_refused(connection, b"1\r\nx\r\n", 6 * 400, pause=0.05)
        assert time.monotonic() - started < 10


def test_who_reads_no_answer_is_cut_off() -> None:
    with serving(large, stall=1.0) as (port, server), connect(port) as connection:
        connection.sendall(GET)
        deadline = time.monotonic() + 30
        while not server.server_state.connections:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        while server.server_state.connections:
            assert time.monotonic() < deadline, "the connection is still held"
            time.sleep(0.05)
        with pytest.raises(ConnectionError):
            read(connection)


def test_a_slow_reader_gets_all() -> None:
    with serving(large, stall=10.0) as (port, _), connect(port) as connection:
        connection.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        time.sleep(0.3)
        assert len(read(connection)) > 64 << 20

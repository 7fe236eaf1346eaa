"""Callers who mean harm, against a real gateway with a real worker behind it.

Each is answered or cut off and costs a bounded amount of memory, and nobody else waits for it.
"""

import asyncio
import json
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from inflight.stack.process import free_port
from tests.support.deployment import Deployment
from tests.support.doses import FULL
from tests.support.http_clients import call
from tests.support.http_server import read
from tests.support.supervised import Supervised
from tests.support.waiting import figures, until

CONNECTIONS = 20_000 if FULL else 4_000
SLOW = 300
LIMIT = 200
"""Connections that the gateway takes."""
SECONDS = 2.0
"""For headers and for bodies."""
MEGABYTE = 1 << 20
MORE_MEMORY = 128 * MEGABYTE
HEAD = b"POST /v1/models/diamonds/predictions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


class Target:
    """The gateway that is attacked."""

    def __init__(self, gateway: Supervised, port: int, row: dict[str, Any]) -> None:
        self.gateway = gateway
        self.port = port
        self._row = row

    def answers(self) -> bool:
        """Whether somebody else gets a prediction."""
        return call(self.port, "POST", "/v1/diamonds/value", self._row, {"Prefer": "wait=50"}, 60).status == 200

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    @contextmanager
    def bounded(self) -> Iterator[None]:
        """Within the block the process lives, and takes no more memory than a bound; then it answers as before."""
        assert self.answers()
        before, runs, peak = self.gateway.rss(), len(self.gateway.exit_codes), 0
        try:
            yield
            peak = self.gateway.rss()
        finally:
            figures(before_mb=before // MEGABYTE, after_mb=peak // MEGABYTE)
        assert peak - before < MORE_MEMORY, f"{(peak - before) // MEGABYTE} MB more"
        until(self.answers, 60, "it answers")
        assert len(self.gateway.exit_codes) == runs, "it was restarted"


@pytest.fixture(scope="module")
def target(module_deployment: Deployment) -> Target:
    deployment, port = module_deployment, free_port()
    deployment.worker()
    gateway = deployment.gateway(port, gateway_body_timeout=SECONDS, gateway_max_connections=LIMIT)
    deployment.serving(1)
    until(gateway.serves, 180, "the gateway is ready")
    [row] = deployment.diamonds(1)
    found = Target(gateway, port, row)
    until(found.answers, 180, "it answers")
    return found


class _Client(asyncio.Protocol):
    """Keeps what comes until the connection ends."""

    def __init__(self) -> None:
        self.found = b""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.found += data

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set_result(None)


async def _trickle(port: int, start: bytes, more: bytes) -> tuple[int, float]:
    """A client that sends `start`, and then a little every 50 ms until the other side ends the connection.

    Returns the status that it got, 0 without one, and how many seconds that took.
    """
    started = time.monotonic()
    transport, client = await asyncio.get_running_loop().create_connection(_Client, "127.0.0.1", port)
    transport.write(start)
    while not client.ended.done():
        assert time.monotonic() - started < 120, "the connection is held"
        await asyncio.wait([client.ended], timeout=0.05 if more else 120)
        if more and not transport.is_closing():
            transport.write(more)
    transport.close()
    return _status(client.found), time.monotonic() - started


@pytest.mark.parametrize(
    ("start", "more", "statuses"),
    [
        (b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"a: b\r\n", {0, 503}),
        (HEAD + b"Content-Length: 1000000\r\n\r\n", b" ", {408, 503}),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", {408, 503}),
        (
            HEAD.replace(b"/v1/models/diamonds/predictions", b"/nothing") + b"Content-Length: 99999\r\n\r\n",
            b" ",
            {404, 503},
        ),
    ],
    ids=["headers", "body", "chunks", "body nobody reads"],
)
def test_slow_loris(target: Target, start: bytes, more: bytes, statuses: set[int]) -> None:
    """More slow clients than the gateway takes: all are gone soon, and then others are answered."""

    async def attack() -> list[tuple[int, float]]:
        return await asyncio.gather(*(_trickle(target.port, start, more) for _ in range(SLOW)))

    with target.bounded():
        ended = asyncio.run(attack())
    assert {status for status, _ in ended} <= statuses
    assert max(seconds for _, seconds in ended) < 60
    assert len(ended) == SLOW


def _status(found: bytes) -> int:
    return int(found.split()[1]) if found.startswith(b"HTTP/1.1 ") else 0


def test_many_idle_connections_are_refused_politely(target: Target) -> None:
    """Those above the limit get 503 at once and the others the time for headers; whoever closes makes room."""

    async def attack() -> Counter[int]:
        told: Counter[int] = Counter()
        for begin in range(0, CONNECTIONS, batch):
            clients = (_trickle(target.port, b"", b"") for _ in range(min(batch, CONNECTIONS - begin)))
            told.update(status for status, _ in await asyncio.gather(*clients))
        return told

    # At the same time: as many as this process may have.
    batch = min(CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500)
    with target.bounded():
        told = asyncio.run(attack())
    assert told.total() == CONNECTIONS
    # 0 is the end of a connection that said nothing for too long.
    assert set(told) == {0, 503}, told
    assert told[503] > CONNECTIONS // 2, told
    figures(**{f"status_{status}": count for status, count in told.items()})


@pytest.mark.parametrize("chunked", [False, True], ids=["declared", "chunked"])
def test_bodies_of_ten_megabytes_are_413(target: Target, chunked: bool) -> None:
    """The client, which sends all of it before it reads, gets the problem."""
    body = b'{"features": {"text": "' + b"x" * 10_000_000 + b'"}}'

    def attack() -> bytes:
        with target.connect() as connection:
            if chunked:
                connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body))
                connection.sendall(body + b"\r\n0\r\n\r\n")
            else:
                connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body))
                connection.sendall(body)
            return read(connection)

    with target.bounded():
        for _ in range(20):
            found = attack()
            assert _status(found) == 413, found[:500]
            assert json.loads(found.partition(b"\r\n\r\n")[2])["type"].endswith(":too-large")


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"features": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"features": {"a": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}}",
        b'{"rows": [' + b"{}," * 900_000 + b"{}]}",
        b'{"features": {' + b",".join(b'"k%d": 1' % number for number in range(50_000)) + b"}}",
        b'{"features": {"carat": ' + b"9" * 900_000 + b"}}",
    ],
    ids=["open", "lists", "objects", "rows", "fields", "digits"],
)
def test_costly_bodies(target: Target, body: bytes) -> None:
    """Nested, endless and numerous: a problem each time, at once."""
    with target.bounded():
        for _ in range(5):
            with target.connect() as connection:
                started = time.monotonic()
                connection.sendall(
                    HEAD + b"Prefer: wait=50\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
                )
                connection.sendall(body)
                found = read(connection)
            assert _status(found) in (400, 413, 422), found[:500]
            assert b"application/problem+json" in found
            assert time.monotonic() - started < 60


def _pipelined(target: Target) -> None:
    with target.connect() as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 10_000)
        found = read(connection)
    assert 1 <= found.count(b"HTTP/1.1 200") <= 10_000
    assert found.count(b"HTTP/1.1 ") == found.count(b"HTTP/1.1 200")


def _endless_headers(target: Target) -> None:
    sent = 0
    with target.connect() as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        try:
            while sent < 200 * MEGABYTE:
                sent += connection.send(b"a" * 65_536)
        except ConnectionError:
            pass
    assert sent < 100 * MEGABYTE, "it was read for too long"


def _short_bodies(target: Target) -> None:
    for _ in range(100):
        with target.connect() as connection:
            connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{}")
            connection.shutdown(socket.SHUT_WR)


def _two_lengths(target: Target) -> None:
    for lengths in (
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: +2\r\n\r\n{}",
        b"Transfer-Encoding: gzip, chunked, identity\r\n\r\n{}",
    ):
        with target.connect() as connection:
            connection.sendall(HEAD + lengths)
            found = read(connection)
        assert _status(found) == 400, (lengths, found[:300])


def _unread_answers(target: Target) -> None:
    """Clients that ask for the largest answer again and again and read none of it."""
    open_ones = [target.connect() for _ in range(20)]
    for connection in open_ones:
        connection.setblocking(False)
        try:
            while connection.send(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 100):
                pass
        except OSError:
            pass
    assert target.answers()
    for connection in open_ones:
        connection.close()


@pytest.mark.parametrize("attack", [_pipelined, _endless_headers, _short_bodies, _two_lengths, _unread_answers])
def test_abuse_of_http(target: Target, attack: Callable[[Target], None]) -> None:
    with target.bounded():
        attack(target)

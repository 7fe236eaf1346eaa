"""The gateway's server in a thread, with applications for tests of it, and plain sockets as its clients."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from producers.gateway.bodies import Limits, read_body
from producers.gateway.problems import Problem
from producers.gateway.server import Server, listen, new_server
from producers.gateway.unread import UnreadBodies

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
def serving(
    app: ASGIApp = echo, connections: int = 20, drain: float = 1.0, stall: float = 1.0
) -> Iterator[tuple[int, Server]]:
    """A server in a thread: its port, and itself."""
    server = new_server(
        UnreadBodies(app, seconds=1.0),
        connections=connections,
        header_seconds=0.3,
        drain_seconds=drain,
        stall_seconds=stall,
    )
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
    """A connection to this machine."""
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def read(connection: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    found = b""
    while chunk := connection.recv(65_536):
        found += chunk
    return found

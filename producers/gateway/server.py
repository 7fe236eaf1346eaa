"""uvicorn in our own event loop, with limits that it lacks.

They are connections at a time, time and size of the headers, requests ahead of their answers, and answers that nobody
reads.

Signals are the process's own: uvicorn would wait for open requests for ever, and end the process with the signal.
"""

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from machine_learning_engineering.observability.rate_limit import RATE_LIMITED
from producers.gateway.problems import Problem, busy

BACKLOG = 1_024
MAX_HEADER_BYTES = 64 * 1024
MAX_HEADERS = 100
MAX_PIPELINED = 16
"""Requests of a connection that wait for the answer to the one before them."""
STALL_SECONDS = 30.0
"""So long a client may take nothing of its answer."""

_MALFORMED = Problem("malformed-request", "this is not HTTP/1.1: check lengths, headers and the address")
_TOO_LARGE = Problem(
    "headers-too-large", f"a request may have {MAX_HEADERS} headers with {MAX_HEADER_BYTES:,} bytes: send fewer"
)
_BUSY = busy("overloaded", "too many connections are open: close some of them, or try again")


def _bytes(problem: Problem) -> bytes:
    """The problem as a whole response, the last one of its connection."""
    response = problem.response()
    lines = [f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}".encode()]
    lines += [name + b": " + value for name, value in (*response.raw_headers, (b"connection", b"close"))]
    return b"\r\n".join(lines) + b"\r\n\r\n" + bytes(response.body)


def _limit(record: logging.LogRecord) -> bool:
    """Mark what uvicorn says of each malformed request, so that the service log says it now and then."""
    record.__dict__.update(RATE_LIMITED)
    return True


class _Refusal(Exception):
    """Ends the parsing of a request."""


class LimitedProtocol(HttpToolsProtocol):
    """A connection within limits. The class has those of a server: see `limited`."""

    max_connections = 1_000
    header_seconds = 10.0
    stall_seconds = STALL_SECONDS
    _headers_due: asyncio.TimerHandle | None = None
    _received = 0
    _problem = _MALFORMED
    _refused = False
    """Nothing that comes is read any more."""

    def connection_made(self, transport: Any) -> None:
        if len(self.connections) >= self.max_connections:
            self._refused = True
            transport.write(_bytes(_BUSY))
            transport.close()
            return
        super().connection_made(transport)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # The kernel resets a connection whose client takes nothing; macOS has no such option.
            own = transport.get_extra_info("socket")
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self.stall_seconds * 1000))
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        if self.transport is not None:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        # The part of a chunk before a request begins isn't its own, so `on_message_begin` sets this to 0.
        self._received += len(data)
        super().data_received(data)
        if self._headers_due is not None and self._received > MAX_HEADER_BYTES and not self._refused:
            self._problem = _TOO_LARGE
            self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._received = 0
        if self._headers_due is None:
            self._await_headers()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEADER_BYTES or len(self.headers) > MAX_HEADERS:
            self._problem = _TOO_LARGE
            raise _Refusal
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _Refusal
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Read no more, and answer with the problem. Answers to earlier requests, if some are due, are the last."""
        self._refused = True
        self._stop_waiting()
        cycle = self.cycle
        if cycle is not None and cycle.more_body and self.pipeline and self.pipeline[0][0] is cycle:
            # What is malformed is its own body.
            self.pipeline.popleft()
        elif cycle is None or cycle.response_complete or (cycle.more_body and not cycle.response_started):
            self.transport.write(_bytes(self._problem))
            self.transport.close()
        elif cycle.more_body:
            self.transport.close()

    def on_response_complete(self) -> None:
        if self._refused and not self.pipeline:
            self.transport.close()
        super().on_response_complete()

    def _await_headers(self) -> None:
        self._headers_due = self.loop.call_later(self.header_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _give_up(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            # While an answer is due, nothing of the next request is read.
            self._await_headers()
            return
        self._headers_due = None
        if not self.transport.is_closing():
            self.transport.close()


def limited(connections: int, header_seconds: float, stall_seconds: float) -> type[LimitedProtocol]:
    """The protocol with these limits."""
    limits = {"max_connections": connections, "header_seconds": header_seconds, "stall_seconds": stall_seconds}
    return type("Protocol", (LimitedProtocol,), limits)


class Server(uvicorn.Server):
    """A server without signal handlers. `should_exit` ends it: open requests have the drain time."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


class PortInUse(RuntimeError):
    """Another process listens on the port. The message names the fix."""


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any free one.

    Raises:
        PortInUse: another process does.
        OSError: the address can't be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host.strip("[]"), port), family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        raise PortInUse(f"port {port} is in use: set INFLIGHT_GATEWAY_PORT to another one; 0 is any free one") from None


def new_server(
    app: ASGIApp,
    *,
    connections: int,
    header_seconds: float,
    drain_seconds: float,
    stall_seconds: float = STALL_SECONDS,
) -> Server:
    """A server that is not started yet; `serve` gets its sockets.

    Args:
        app: the application.
        connections: at a time; further ones are refused.
        header_seconds: from the connection to the end of its headers.
        drain_seconds: of open requests at the end.
        stall_seconds: for which a client may take nothing of its answer.
    """
    config = uvicorn.Config(
        app,
        http=limited(connections, header_seconds, stall_seconds),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=max(1, int(drain_seconds)),
        backlog=BACKLOG,
    )
    logging.getLogger("uvicorn.error").addFilter(_limit)
    return Server(config)

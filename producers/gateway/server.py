"""uvicorn in our own event loop, with limits that it lacks: connections at a time, and time for the headers.

Signals are the process's own: uvicorn would wait for open requests for ever, and end the process with the signal.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

BACKLOG = 1_024
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n"
)
_BUSY_BODY = (
    b'{"type":"urn:inflight:problem:overloaded","title":"The gateway is at its limit","status":503,'
    b'"detail":"too many connections are open: close some of them, or try again"}'
)


class LimitedProtocol(HttpToolsProtocol):
    """A connection with a limit of time for its headers. The class has the limits of a server: see `limited`."""

    max_connections = 1_000
    header_seconds = 10.0
    _headers_due: asyncio.TimerHandle | None = None
    _refused = False

    def connection_made(self, transport: Any) -> None:
        if len(self.connections) >= self.max_connections:
            self._refused = True
            transport.write(_BUSY % len(_BUSY_BODY) + _BUSY_BODY)
            transport.close()
            return
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        if not self._refused:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            super().data_received(data)

    def eof_received(self) -> None:
        if not self._refused:
            super().eof_received()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._headers_due is None:
            self._await_headers()

    def on_headers_complete(self) -> None:
        self._stop_waiting()
        super().on_headers_complete()

    def _await_headers(self) -> None:
        self._headers_due = self.loop.call_later(self.header_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None

    def _give_up(self) -> None:
        self._headers_due = None
        if not self.transport.is_closing():
            self.transport.close()


def limited(connections: int, header_seconds: float) -> type[LimitedProtocol]:
    """The protocol with these limits."""
    return type("Protocol", (LimitedProtocol,), {"max_connections": connections, "header_seconds": header_seconds})


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


def new_server(app: ASGIApp, *, connections: int, header_seconds: float, drain_seconds: float) -> Server:
    """A server that is not started yet; `serve` gets its sockets.

    Args:
        app: the application.
        connections: at a time; further ones are refused.
        header_seconds: from the connection to the end of its headers.
        drain_seconds: of open requests at the end.
    """
    config = uvicorn.Config(
        app,
        http=limited(connections, header_seconds),
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
    return Server(config)

"""HTTP server for metrics with limits: a client that opens connections and sends nothing can't block it."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

MAX_CONNECTIONS = 16
"""Connections at a time; further ones are closed at once."""
IDLE_TIMEOUT = 5.0
"""Seconds that a client may be silent."""
MAX_SECONDS = 15.0
"""Seconds from a connection to its end, also for a client that sends a byte now and then."""


class _Handler(WSGIRequestHandler):
    timeout = IDLE_TIMEOUT

    def log_message(self, format: str, *args: object) -> None:
        """Log no line for each scrape."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    # Not waited for at the end: a client may be silent.
    block_on_close = False

    def __init__(self, host: str, port: int) -> None:
        self._opened: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        self.address_family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        super().__init__((str(address[0]), port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            is_full = len(self._opened) >= MAX_CONNECTIONS
            if not is_full:
                self._opened[request] = time.monotonic()
        if is_full:
            self.shutdown_request(request)
        else:
            super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._lock:
            self._opened.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log nothing: a client that disconnects or is too slow is not an error of this process."""

    def service_actions(self) -> None:
        """Cut connections that last too long. Called twice a second."""
        with self._lock:
            oldest = time.monotonic() - MAX_SECONDS
            for request in [request for request, since in self._opened.items() if since < oldest]:
                with suppress(OSError):
                    request.shutdown(socket.SHUT_RDWR)


def start_metrics_server(app: Callable[..., Any], host: str, port: int) -> tuple[WSGIServer, threading.Thread]:
    """Serve a WSGI application in a thread.

    Args:
        app: The application, such as `prometheus_client.make_wsgi_app(registry)`.
        host: Address to listen on.
        port: Port; 0 is any free one.

    Returns:
        The server, whose `shutdown` and `server_close` end it, and its thread.

    Raises:
        OSError: The port is taken.
    """
    server = _Server(host, port)
    server.set_app(app)
    thread = threading.Thread(target=server.serve_forever, name="inflight-metrics", daemon=True)
    thread.start()
    return server, thread

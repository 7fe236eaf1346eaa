"""What the processes of this room share: what they say in the service log, their signals, their metrics endpoint."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server

__all__ = ["serve_metrics", "until_signalled"]


@contextmanager
def until_signalled() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; the handlers that were there before come back at the end."""
    stopping = threading.Event()

    def stop(_number: int, _frame: object) -> None:
        stopping.set()

    if threading.current_thread() is not threading.main_thread():
        # Signals are the main thread's affair; who runs a process in another thread stops it in another way.
        yield stopping
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def serve_metrics(registry: CollectorRegistry, host: str, port: int) -> Iterator[str]:
    """Serve `/metrics` (text or OpenMetrics, as the client asks) in a thread, at the URL given; port 0 is any free one.

    Raises:
        OSError: the port is taken.
    """
    server, thread = start_http_server(port, host, registry)
    try:
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""Start-up of a process: signals, metrics endpoint and service log."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry

from machine_learning_engineering.observability.health import metrics_app
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.observability.metrics_server import start_metrics_server
from machine_learning_engineering.settings import KernelSettings, http_url

_T = TypeVar("_T")


def run_process(
    name: str,
    settings: KernelSettings,
    work: Callable[[threading.Event], _T],
    metrics: tuple[CollectorRegistry, int] | None = None,
    **started: Any,
) -> _T:
    """Run a process until SIGTERM or SIGINT, with its metrics served and its start and stop logged.

    Args:
        name: of the process, in the service log.
        work: returns soon after the event it is given is set; its result is returned.
        metrics: registry, and the port that serves it; port 0 is any free one.
        started: further fields of the log line `started`.

    Raises:
        OSError: the metrics port is taken.
    """
    with until_signalled() as stopping, ExitStack() as stack:
        if metrics is not None:
            registry, port = metrics
            started["metrics"] = stack.enter_context(serve_metrics(registry, settings.metrics_host, port))
        log_event(name, "started", kafka=settings.kafka_bootstrap_servers, **started)
        result = work(stopping)
        log_event(name, "stopped")
    return result


@contextmanager
def until_signalled() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; the previous handlers are restored at the end."""
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        # Only the main thread may set signal handlers; a caller in another thread stops the process in another way.
        yield stopping
        return
    told, tell = os.pipe()

    def stop(_number: int, _frame: object) -> None:
        # No lock: this may interrupt the main thread where it holds that of the event, or itself.
        os.write(tell, b".")

    def watch() -> None:
        if os.read(told, 1):
            stopping.set()

    watcher = threading.Thread(target=watch, name="inflight-signals", daemon=True)
    watcher.start()
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(tell)
        watcher.join()
        os.close(told)


@contextmanager
def serve_metrics(registry: CollectorRegistry, host: str, port: int) -> Iterator[str]:
    """Serve `/metrics` (Prometheus text or OpenMetrics, as the client asks) in a thread, at the URL given.

    Raises:
        OSError: the port is taken.
    """
    server, thread = start_metrics_server(metrics_app(registry), host, port)
    try:
        yield f"{http_url(host, server.server_port)}/metrics"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

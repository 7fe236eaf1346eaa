"""Whether a process lives and is ready, beside its metrics: for Kubernetes and load balancers."""

from collections.abc import Callable, Iterable
from typing import Any

from prometheus_client import CollectorRegistry, make_wsgi_app

READY = ("inflight_worker_assigned_partitions", "inflight_gateway_ready")
"""Gauges that are above 0 once their process is ready. One without such a gauge is ready when it has started."""


def metrics_app(registry: CollectorRegistry) -> Callable[..., Iterable[bytes]]:
    """A WSGI application: `/livez` and `/readyz` answer 200 or 503 with a line of text, any other path the metrics.

    `/livez` says that the process runs: it asks for nothing else, or an outage of the broker would restart every
    process. What hangs ends itself, see the worker's watchdog.
    """
    metrics = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO")
        if path not in ("/livez", "/readyz"):
            found: Iterable[bytes] = metrics(environ, start_response)
            return found
        missing = not_ready(registry) if path == "/readyz" else ""
        body = f"{missing or 'ok'}\n".encode()
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
        start_response("503 Service Unavailable" if missing else "200 OK", headers)
        return [body]

    return app


def not_ready(registry: CollectorRegistry) -> str:
    """Why a process is not ready, such as `inflight_gateway_ready is 0`; empty if it is."""
    for metric in registry.restricted_registry(READY).collect():
        for sample in metric.samples:
            if not sample.value > 0:
                return f"{sample.name} is {sample.value:g}"
    return ""

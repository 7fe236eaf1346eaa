"""What a supervisor asks a process: does it live, is it ready?"""

from contextlib import contextmanager
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

pytest.importorskip("prometheus_client", reason="comes with the product")

from prometheus_client import CollectorRegistry, Counter, Gauge

from machine_learning_engineering.observability.health import READY, metrics_app
from machine_learning_engineering.observability.metrics_server import start_metrics_server


@contextmanager
def served(registry):
    server, thread = start_metrics_server(metrics_app(registry), "127.0.0.1", 0)
    try:
        yield lambda path: get(f"http://127.0.0.1:{server.server_port}{path}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def get(url):
    try:
        with urlopen(url, timeout=10) as response:
            return response.status, response.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize("name", READY)
def test_a_process_is_ready_once_its_gauge_says_so_and_lives_before(name):
    registry = CollectorRegistry()
    gauge = Gauge(name, "x", registry=registry)
    with served(registry) as ask:
        assert ask("/readyz") == (503, f"{name} is 0\n")
        assert ask("/livez") == (200, "ok\n")
        gauge.set(3)
        assert ask("/readyz") == (200, "ok\n")
        gauge.set(0)
        assert ask("/readyz")[0] == 503
        gauge.set(float("nan"))
        assert ask("/readyz")[0] == 503


def test_a_process_without_such_a_gauge_is_ready_and_nothing_else_is_collected():
    registry = CollectorRegistry()

    class Costly:
        def describe(self):
            return []

        def collect(self):
            raise AssertionError("a probe must not pay for a scrape")

    registry.register(Costly())
    with served(registry) as ask:
        assert ask("/readyz") == ask("/livez") == (200, "ok\n")


def test_other_paths_serve_the_metrics():
    registry = CollectorRegistry()
    Counter("inflight_worker_records", "x", registry=registry).inc()
    with served(registry) as ask:
        for path in ("/metrics", "/", "/livez/"):
            status, text = ask(path)
            assert status == 200
            assert "inflight_worker_records_total 1.0" in text

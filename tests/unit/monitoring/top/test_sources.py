"""Where the metrics are: by the settings or as given, and what is said of those that do not answer."""

import http.server
import json
import socket
import threading
from collections.abc import Iterator

import pytest

from inflight.settings import Settings
from monitoring.top.sources import Alert, Sources, endpoints, url_of


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("9101", "http://127.0.0.1:9101/metrics"),
        ("worker:9101", "http://worker:9101/metrics"),
        ("http://worker:9101/", "http://worker:9101/metrics"),
        ("https://host/prefix/metrics", "https://host/prefix/metrics"),
    ],
)
def test_an_address_may_be_short(given: str, url: str) -> None:
    """A port, a host with one, or all of it."""
    assert url_of(given) == url


def test_other_schemes_are_refused() -> None:
    """A file is no process."""
    with pytest.raises(ValueError, match="is not an address"):
        url_of("file:///etc/passwd")


def test_the_settings_say_where_processes_are() -> None:
    """Unless it is given; a process that listens everywhere is asked here."""
    settings = Settings(_env_file=None, metrics_host="0.0.0.0", indexer_metrics_port=7)  # type: ignore[call-arg]
    found = endpoints(settings.metrics_host, settings.metrics_ports, {"worker": ["1", "2"]})
    assert found["worker"] == ["http://127.0.0.1:1/metrics", "http://127.0.0.1:2/metrics"]
    assert found["indexer"] == ["http://127.0.0.1:7/metrics"]


ALERT = {"labels": {"alertname": "A", "severity": "page"}, "state": "firing", "annotations": {"summary": "s"}}
PAGES = {
    "/metrics": b"inflight_n_total 3\n",
    "/other": b"<html>",
    "/good/api/v1/alerts": json.dumps({"data": {"alerts": [ALERT]}}).encode(),
    "/odd/api/v1/alerts": b"[1]",
}


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        found = PAGES.get(self.path)
        self.send_response(404 if found is None else 200)
        self.end_headers()
        self.wfile.write(found or b"")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The servers are threads of this process; a machine may be busy."""
    monkeypatch.setattr("monitoring.top.sources.TIMEOUT", 60.0)


@pytest.fixture
def server() -> Iterator[str]:
    """Serves the pages."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


def test_each_endpoint_has_an_answer_or_a_reason(server: str) -> None:
    """One that is away does not keep the others from being seen."""
    sources = Sources({"worker": [f"{server}/metrics", f"{server}/other", f"{server}/none", "http://127.0.0.1:1/m"]})
    good, strange, missing, refused = sources.scrape()["worker"]
    sources.close()
    assert good.scrape is not None
    assert list(good.scrape.series.values()) == [3.0]
    assert (strange.scrape, missing.scrape, refused.scrape) == (None, None, None)
    assert strange.problem
    assert "404" in missing.problem
    assert refused.problem == "not running"


BROKEN = {
    b"HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\nn 1\n": "the response is incomplete",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nn 1\n": "the response is incomplete",
    b"hello\r\n\r\n": "hello",
    b"": "closed connection",
}


@pytest.mark.parametrize(("answer", "problem"), BROKEN.items())
def test_an_answer_that_is_none_is_a_problem_and_no_crash(answer: bytes, problem: str) -> None:
    """A process that ends in the middle of its page, and another protocol; for metrics and for alerts."""

    def serve() -> None:
        for _ in range(2):
            connection, _address = listening.accept()
            with connection:
                connection.recv(4_096)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        sources = Sources({"worker": [f"{url}/metrics"]}, url)
        (found,) = sources.scrape()["worker"]
        alerts = sources.alerts()
        sources.close()
        thread.join()
    assert found.scrape is None
    assert problem in found.problem
    assert problem in str(alerts)


def test_a_page_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line now and then starts the time-out of a socket again and again."""
    monkeypatch.setattr("monitoring.top.sources.TIMEOUT", 0.2)
    given_up = threading.Event()

    def serve() -> None:
        connection, _address = listening.accept()
        with connection:
            connection.recv(4_096)
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
            while not given_up.wait(0.02):
                try:
                    connection.sendall(b"n 1\n")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        sources = Sources({"worker": [f"http://127.0.0.1:{listening.getsockname()[1]}/metrics"]})
        (found,) = sources.scrape()["worker"]
        given_up.set()
        sources.close()
        thread.join()
    assert found.problem.startswith("no response within")


def test_alerts_of_prometheus(server: str) -> None:
    """Or why there are none."""

    def alerts(url: str | None) -> list[Alert] | str:
        sources = Sources({}, url)
        try:
            return sources.alerts()
        finally:
            sources.close()

    assert alerts(f"{server}/good") == [Alert("A", "firing", "page", "s")]
    assert alerts(None) == []
    assert isinstance(alerts(f"{server}/odd"), str)
    assert "404" in str(alerts(server))

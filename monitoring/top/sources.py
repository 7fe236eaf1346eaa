"""Where the metrics are read from: the processes of a deployment, and Prometheus for its alerts."""

import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, IncompleteRead
from time import monotonic
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError

import msgspec

from machine_learning_engineering.settings import KernelSettings
from monitoring.top.samples import Scrape, parse

TIMEOUT = 2.0
PROCESSES = ("worker", "exporter", "indexer", "drift-monitor", "label-joiner")
"""The kinds of process; `inflight NAME` starts each."""


class Answer(NamedTuple):
    """What came of asking one endpoint: a scrape, or why there is none."""

    url: str
    scrape: Scrape | None
    problem: str = ""


class Alert(msgspec.Struct, frozen=True):
    """An alert that Prometheus has, `pending` or `firing`."""

    name: str
    state: str
    severity: str
    summary: str


def endpoints(settings: KernelSettings, given: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The URLs of each kind of process: those given, else the one that the settings say.

    Raises:
        ValueError: a URL is none.
    """
    found = {}
    for name in PROCESSES:
        host = "127.0.0.1" if settings.metrics_host in ("0.0.0.0", "::") else settings.metrics_host  # noqa: S104
        port = getattr(settings, f"{name.replace('-', '_')}_metrics_port")
        found[name] = [url_of(one) for one in given.get(name) or [f"http://{host}:{port}"]]
    return found


def url_of(text: str) -> str:
    """The URL of an endpoint that was given as such, or as host:port, or as a port.

    Raises:
        ValueError: it is neither.
    """
    if text.isdigit():
        text = f"127.0.0.1:{text}"
    url = text if "://" in text else f"http://{text}"
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{text!r} is not the address of a process: give a URL, host:port or a port")
    return url if url.partition("://")[2].rstrip("/").count("/") else f"{url.rstrip('/')}/metrics"


class Sources:
    """Asks all endpoints at once, so that one that hangs holds up nobody for longer than `TIMEOUT` seconds."""

    def __init__(self, urls: Mapping[str, Sequence[str]], prometheus: str | None = None) -> None:
        self._urls = urls
        self._prometheus = prometheus
        self._pool = ThreadPoolExecutor(16, thread_name_prefix="inflight-watch")

    def scrape(self) -> dict[str, list[Answer]]:
        """What each process says now, by its kind."""
        asked = {name: [self._pool.submit(_ask, url) for url in urls] for name, urls in self._urls.items()}
        return {name: [one.result() for one in of_kind] for name, of_kind in asked.items()}

    def alerts(self) -> list[Alert] | str:
        """The alerts of Prometheus, or why they can't be read; none without a Prometheus."""
        if self._prometheus is None:
            return []
        try:
            text = _get(f"{self._prometheus.rstrip('/')}/api/v1/alerts")
            found: Any = msgspec.json.decode(text)["data"]["alerts"]
            return [
                Alert(
                    one["labels"].get("alertname", "?"),
                    one["state"],
                    one["labels"].get("severity", ""),
                    one.get("annotations", {}).get("summary", ""),
                )
                for one in found
            ]
        except (OSError, ValueError, HTTPException, KeyError, TypeError, AttributeError) as error:
            return _problem(error)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)


def _get(url: str) -> str:
    deadline = monotonic() + TIMEOUT
    parts: list[bytes] = []
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310 - http and https alone, see `url_of`
        # The time-out of a socket begins again with each byte.
        while part := answer.read1(65_536):
            parts.append(part)
            if monotonic() > deadline:
                raise TimeoutError
        if answer.length:
            raise IncompleteRead(b"", answer.length)
    return b"".join(parts).decode()


def _ask(url: str) -> Answer:
    try:
        return Answer(url, Scrape(monotonic(), parse(_get(url))))
    except (OSError, ValueError, HTTPException) as error:
        return Answer(url, None, _problem(error))


def _problem(error: Exception) -> str:
    if isinstance(error, HTTPError):
        error.close()
        return f"HTTP status {error.code}"
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, ConnectionRefusedError):
        return "not running"
    if isinstance(reason, TimeoutError):
        return f"no answer within {TIMEOUT:.0f} s"
    if isinstance(reason, IncompleteRead):
        return "the answer breaks off"
    return str(reason) or type(error).__name__

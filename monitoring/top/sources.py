"""Reads the metrics of all processes, and alerts from Prometheus."""

import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, IncompleteRead
from time import monotonic
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError

import msgspec

from machine_learning_engineering.settings import http_url
from monitoring.top.samples import Scrape, parse

TIMEOUT = 2.0
PROCESSES = ("worker", "exporter", "indexer", "drift-monitor", "label-joiner")
"""The kinds of process; `inflight NAME` starts one."""


class ScrapeResult(NamedTuple):
    """A scrape of one endpoint, or why it failed."""

    url: str
    scrape: Scrape | None
    problem: str = ""


class Alert(msgspec.Struct, frozen=True):
    """An alert of Prometheus; `state` is `pending` or `firing`."""

    name: str
    state: str
    severity: str
    summary: str


def endpoints(host: str, ports: Mapping[str, int], given: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Return the URLs of each kind of process: the given ones, or else the one at its port.

    Args:
        host: Address at which the processes listen; of one that listens everywhere, this machine is asked.
        ports: Metrics port by process.
        given: Addresses by process.

    Raises:
        ValueError: An address is malformed.
    """
    host = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104
    return {name: [url_of(one) for one in given.get(name) or [http_url(host, ports[name])]] for name in PROCESSES}


def url_of(text: str) -> str:
    """The URL of an endpoint given as a URL, host:port or port.

    Raises:
        ValueError: it is none of these.
    """
    if text.isdigit():
        text = f"127.0.0.1:{text}"
    url = text if "://" in text else f"http://{text}"
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{text!r} is not an address: give a URL, host:port or a port")
    return url if url.partition("://")[2].rstrip("/").count("/") else f"{url.rstrip('/')}/metrics"


class Sources:
    """Queries all endpoints concurrently, so that one that hangs delays a poll by at most `TIMEOUT` seconds."""

    def __init__(self, urls: Mapping[str, Sequence[str]], prometheus: str | None = None) -> None:
        self._urls = urls
        self._prometheus = prometheus
        self._pool = ThreadPoolExecutor(16, thread_name_prefix="inflight-top")

    def scrape(self) -> dict[str, list[ScrapeResult]]:
        """The current result of each endpoint, by kind of process."""
        futures = {name: [self._pool.submit(_query, url) for url in urls] for name, urls in self._urls.items()}
        return {name: [one.result() for one in of_kind] for name, of_kind in futures.items()}

    def alerts(self) -> list[Alert] | str:
        """The alerts of Prometheus, or why they cannot be read; empty without a Prometheus."""
        if self._prometheus is None:
            return []
        try:
            text = _get(f"{self._prometheus.rstrip('/')}/api/v1/alerts")
            found: Any = msgspec.json.decode(text)["data"]["alerts"]
            alerts = [
                {
                    "name": one["labels"].get("alertname", "?"),
                    "state": one["state"],
                    "severity": one["labels"].get("severity", ""),
                    "summary": one.get("annotations", {}).get("summary", ""),
                }
                for one in found
            ]
            return msgspec.convert(alerts, list[Alert])
        except (OSError, ValueError, RecursionError, HTTPException, KeyError, TypeError, AttributeError) as error:
            return _problem(error)

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)


def _get(url: str) -> str:
    deadline = monotonic() + TIMEOUT
    parts: list[bytes] = []
    with urllib.request.urlopen(url, timeout=TIMEOUT) as response:  # noqa: S310 - only http and https, see `url_of`
        # The socket's timeout starts again with each byte.
        while part := response.read1(65_536):
            parts.append(part)
            if monotonic() > deadline:
                raise TimeoutError
        if response.length:
            raise IncompleteRead(b"", response.length)
    return b"".join(parts).decode()


def _query(url: str) -> ScrapeResult:
    try:
        return ScrapeResult(url, Scrape(monotonic(), parse(_get(url))))
    except (OSError, ValueError, HTTPException) as error:
        return ScrapeResult(url, None, _problem(error))


def _problem(error: Exception) -> str:
    if isinstance(error, HTTPError):
        error.close()
        return f"HTTP status {error.code}"
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, ConnectionRefusedError):
        return "not running"
    if isinstance(reason, TimeoutError):
        return f"no response within {TIMEOUT:.0f} s"
    if isinstance(reason, IncompleteRead):
        return "the response is incomplete"
    return str(reason) or type(error).__name__

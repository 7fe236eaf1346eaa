"""The part of Kibana's API that dashboards need: status and import of saved objects.

A URL may end in a space, as in `https://kibana:5601/s/ml`, and may name a user: `https://user:password@kibana:5601`.
"""

import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import msgspec
import urllib3
from msgspec import Struct
from pydantic import SecretStr

from machine_learning_engineering.settings import redact_url
from monitoring.elastic.client import tls_context

IMPORT_PATH = "/api/saved_objects/_import"
STATUS_PATH = "/api/status"
REQUEST_SECONDS = 60.0
POLL_SECONDS = 1.0


class KibanaError(Exception):
    """A request to Kibana failed; the message names the reason and the fix."""


class Rejected(Struct, frozen=True):
    """An object that Kibana did not import, with the reason."""

    type: str
    id: str
    reason: str


class ImportResult(Struct, frozen=True):
    """The result of an import: the number of imported objects, and the rejected ones."""

    count: int
    rejected: list[Rejected]


class Kibana:
    """A client of one Kibana.

    Args:
        url: its address; a user name and password in it are sent as such, and are in no message.
        api_key: sent instead of them.
        ca_certs: PEM file with the certificates of a private authority.

    Raises:
        KibanaError: the address is none, or the file of certificates holds none.
    """

    def __init__(self, url: str, api_key: SecretStr | None = None, ca_certs: Path | None = None) -> None:
        try:
            parts = urlsplit(url.rstrip("/"))
            _ = parts.port
            context = tls_context(ca_certs) if ca_certs and parts.scheme == "https" else None
        except ValueError as error:
            raise KibanaError(f"{redact_url(url)} is no address of a Kibana: {redact_url(str(error))}") from None
        login, _, host = parts.netloc.rpartition("@")
        self.url = urlunsplit(parts._replace(netloc=host))
        self._headers = {"kbn-xsrf": "inflight"}
        if api_key:
            self._headers["authorization"] = f"ApiKey {api_key.get_secret_value()}"
        elif login:
            self._headers |= urllib3.make_headers(basic_auth=unquote(login))
        self._http = urllib3.PoolManager(timeout=REQUEST_SECONDS, retries=False, ssl_context=context)

    def wait(
        self,
        seconds: float,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wait until Kibana is available. When it starts it migrates its index, which takes a minute or more.

        Raises:
            KibanaError: it is not available after `seconds`, with its last status; or, at once, it requires a key.
        """
        deadline = clock() + seconds
        while (state := self._state()) != "available":
            if clock() >= deadline:
                raise KibanaError(
                    f"Kibana at {self.url} is not available after {seconds:g} s: {state}; is this its address "
                    "(INFLIGHT_KIBANA_URL, --kibana-url)?"
                )
            sleep(min(POLL_SECONDS, max(0.0, deadline - clock())))

    def _state(self) -> str:
        """`available`, or the reason why it is not."""
        try:
            response = self._http.request("GET", self.url + STATUS_PATH, headers=self._headers)
        except urllib3.exceptions.HTTPError as error:
            return f"no response ({error})"
        self._check_access(response.status)
        try:
            return str(msgspec.json.decode(response.data)["status"]["overall"]["level"])[:100]
        except (ValueError, RecursionError, KeyError, TypeError):
            return f"HTTP status {response.status}"

    def import_objects(self, objects: bytes, file_name: str) -> ImportResult:
        """Import saved objects, one JSON object per line. Existing ones are overwritten.

        Raises:
            KibanaError: no response, or an error response.
        """
        try:
            response = self._http.request(
                "POST",
                f"{self.url}{IMPORT_PATH}?overwrite=true",
                headers=self._headers,
                fields={"file": (file_name, objects, "application/ndjson")},
            )
        except urllib3.exceptions.HTTPError as error:
            raise KibanaError(f"no response from Kibana at {self.url}: {error}") from error
        self._check_access(response.status)
        if response.status != HTTPStatus.OK:
            raise KibanaError(f"Kibana at {self.url} responded with status {response.status}: {_text(response.data)}")
        try:
            answer = msgspec.json.decode(response.data)
            rejected = [
                {"type": error["type"], "id": error["id"], "reason": _reason(error["error"])}
                for error in answer.get("errors", [])
            ]
            return msgspec.convert({"count": answer["successCount"], "rejected": rejected}, ImportResult)
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            raise KibanaError(f"{self.url} is not a Kibana: {_text(response.data)}") from None

    def _check_access(self, status: int) -> None:
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise KibanaError(
                f"Kibana at {self.url} responded with status {status}: set INFLIGHT_KIBANA_API_KEY to a key that may "
                "manage saved objects"
            )


def _reason(error: dict[str, Any]) -> str:
    """Kibana always gives an error's type, and sometimes details."""
    # An object may reference another one several times.
    missing = dict.fromkeys(f"{one['type']} {one['id']}" for one in error.get("references", []))
    details = error.get("message") or (f"missing {', '.join(missing)}" if missing else "")
    return f"{error['type']}: {details}" if details else str(error["type"])


def _text(data: bytes) -> str:
    return data.decode(errors="replace")[:300]

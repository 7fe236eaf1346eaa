"""Kibana's API as far as dashboards need it: is it up, and import these saved objects.

A URL may end in a space, as in `https://kibana:5601/s/ml`.
"""

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import msgspec
import urllib3
from msgspec import Struct

IMPORT_PATH = "/api/saved_objects/_import"
STATUS_PATH = "/api/status"
REQUEST_SECONDS = 60.0
POLL_SECONDS = 1.0


class KibanaError(Exception):
    """Kibana did not do it; the message says why and names the fix."""


class Refused(Struct, frozen=True):
    """An object that Kibana did not import, and why."""

    type: str
    id: str
    reason: str


class Imported(Struct, frozen=True):
    """What Kibana says of an import: how many objects it took, and which it refused."""

    count: int
    refused: list[Refused]


class Kibana:
    """One Kibana, spoken to with an API key where one is given.

    Args:
        timeout: so many seconds one request may take.
    """

    def __init__(self, url: str, api_key: str | None = None, timeout: float = REQUEST_SECONDS) -> None:
        self.url = url.rstrip("/")
        self._headers = {"kbn-xsrf": "inflight"} | ({"authorization": f"ApiKey {api_key}"} if api_key else {})
        self._http = urllib3.PoolManager(timeout=timeout, retries=False)

    def wait(
        self,
        seconds: float,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wait until Kibana is available: at its start it migrates its index, for a minute or more.

        Raises:
            KibanaError: it is not, after so many seconds; with what it said last. Or it wants a key: at once.
        """
        deadline = clock() + seconds
        while (state := self._state()) != "available":
            if clock() >= deadline:
                raise KibanaError(
                    f"Kibana at {self.url} is not available after {seconds:g} s: {state}; is that its address "
                    "(INFLIGHT_KIBANA_URL, --kibana-url)?"
                )
            sleep(min(POLL_SECONDS, max(0.0, deadline - clock())))

    def _state(self) -> str:
        """`available`, or what is the matter."""
        try:
            response = self._http.request("GET", self.url + STATUS_PATH, headers=self._headers)
        except urllib3.exceptions.HTTPError as error:
            return f"no answer ({error})"
        self._refuse_strangers(response.status)
        try:
            level: str = msgspec.json.decode(response.data)["status"]["overall"]["level"]
            return level
        except (msgspec.DecodeError, KeyError, TypeError):
            return f"it answers {response.status}"

    def import_objects(self, objects: bytes, file_name: str) -> Imported:
        """Import saved objects, one JSON object a line; those that are there already are overwritten.

        Raises:
            KibanaError: no answer, or one that is no success.
        """
        try:
            response = self._http.request(
                "POST",
                f"{self.url}{IMPORT_PATH}?overwrite=true",
                headers=self._headers,
                fields={"file": (file_name, objects, "application/ndjson")},
            )
        except urllib3.exceptions.HTTPError as error:
            raise KibanaError(f"no answer of Kibana at {self.url}: {error}") from error
        self._refuse_strangers(response.status)
        if response.status != HTTPStatus.OK:
            raise KibanaError(f"Kibana at {self.url} answers {response.status}: {_text(response.data)}")
        try:
            answer = msgspec.json.decode(response.data)
            refused = [
                Refused(error["type"], error["id"], _reason(error["error"])) for error in answer.get("errors", [])
            ]
            return Imported(answer["successCount"], refused)
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
            raise KibanaError(f"{self.url} is no Kibana: it answers {_text(response.data)}") from None

    def _refuse_strangers(self, status: int) -> None:
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise KibanaError(
                f"Kibana at {self.url} answers {status}: set INFLIGHT_KIBANA_API_KEY to a key that may manage saved "
                "objects"
            )


def _reason(error: dict[str, Any]) -> str:
    """Kibana names the kind of an error always, and sometimes what is missing or wrong."""
    # An object may refer to the same one several times.
    missing = dict.fromkeys(f"{one['type']} {one['id']}" for one in error.get("references", []))
    details = error.get("message") or (f"missing {', '.join(missing)}" if missing else "")
    return f"{error['type']}: {details}" if details else str(error["type"])


def _text(data: bytes) -> str:
    return data.decode(errors="replace")[:300]

"""Who calls, and what the caller may do: API keys, hosts, and what is allowed without keys."""

import ipaddress
import re
from typing import NamedTuple

from starlette.requests import Request

from producers.gateway.calls import call_of
from producers.gateway.keys import SCOPES, ApiKey, KeyFile, Scope
from producers.gateway.problems import Problem
from producers.gateway.settings import GatewaySettings

_LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::\d{1,5})?")
ANYBODY = "anybody"
"""The caller where no keys are needed."""


class Session(NamedTuple):
    """Whether the gateway needs keys; and of the caller, the name of the key (None without one) and its scopes."""

    keys_required: bool
    name: str | None
    scopes: tuple[Scope, ...]


class Unprotected(RuntimeError):
    """The gateway would be open to others. The message names the fix."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address to listen on."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def require_protection(settings: GatewaySettings, keys: KeyFile) -> None:
    """Refuse to listen where others can call without a key.

    Raises:
        Unprotected: there is no file of keys, and the address is none of the loopback interface.
    """
    if not keys.exists and not is_loopback(settings.gateway_host):
        raise Unprotected(
            f"without API keys the gateway listens on a loopback address only, and INFLIGHT_GATEWAY_HOST is "
            f"{settings.gateway_host}: add a key with `inflight keys add NAME --scope predict`"
        )


class Access:
    """Decides about each request.

    Args:
        settings: of the gateway.
        keys: once the file of keys exists, every request needs one.
    """

    def __init__(self, settings: GatewaySettings, keys: KeyFile) -> None:
        self._keys = keys
        hosts = settings.gateway_allowed_hosts
        if not hosts and is_loopback(settings.gateway_host):
            # A web page could make its own name point at this machine, and read the answers.
            hosts = (*_LOOPBACK_HOSTS, settings.gateway_host)
        self._hosts = frozenset(host.lower() for host in hosts)

    def check_host(self, request: Request) -> None:
        """Check the host that the client means.

        Raises:
            Problem: it is missing, malformed or not allowed.
        """
        match = _HOST.fullmatch(request.headers.get("host", ""))
        if match is None:
            raise Problem("malformed-request", "the header Host is missing or malformed", close=True)
        if self._hosts and match["host"].lower() not in self._hosts:
            message = "this host is not one of INFLIGHT_GATEWAY_ALLOWED_HOSTS"
            raise Problem("host-not-allowed", message, close=True)

    def caller(self, request: Request, scope: Scope) -> str:
        """The id of the caller's key.

        Raises:
            Problem: it has none, or a key that does not allow this.
        """
        if not self._keys.exists:
            call_of(request).caller = ANYBODY
            return ANYBODY
        key = self._key(_given(request))
        call_of(request).caller = key.name
        if not key.allows(scope):
            message = f"the key named {key.name} lacks the scope {scope}: add one with inflight keys add"
            raise Problem("forbidden", message, close=True)
        return key.id

    def session(self, request: Request) -> Session:
        """What the caller may do; nothing without a key where one is needed.

        Raises:
            Problem: it has a key that is not valid.
        """
        if not self._keys.exists:
            return Session(False, None, SCOPES)
        given = _given(request)
        if not given:
            return Session(True, None, ())
        key = self._key(given)
        return Session(True, key.name, tuple(scope for scope in SCOPES if key.allows(scope)))

    def _key(self, given: str) -> ApiKey:
        key = self._keys.find(given)
        if key is None:
            raise Problem(
                "unauthorized",
                "send a valid API key as Authorization: Bearer KEY, or as X-API-Key",
                headers={"www-authenticate": 'Bearer realm="inflight"'},
                close=True,
            )
        return key


def _given(request: Request) -> str:
    given = request.headers.get("x-api-key", "")
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if not given and kind.lower() == "bearer" else given

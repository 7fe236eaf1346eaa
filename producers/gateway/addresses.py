"""An address of the gateway: which endpoint answers there, and which scope of a key it needs."""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from producers.gateway.keys import Scope

Endpoint = Callable[[Request, str], Awaitable[Response]]
"""Gets the request and the id of the caller."""


class Address(NamedTuple):
    """A path with its method and its endpoint. Without a scope, nobody needs a key.

    Without `is_logged`, or a scope, what is called there is not in the log of calls.
    """

    path: str
    endpoint: Endpoint
    scope: Scope | None
    method: str = "GET"
    is_logged: bool = True

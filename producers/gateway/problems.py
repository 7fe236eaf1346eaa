"""Errors as `application/problem+json` (RFC 9457). They name the field and the fix, and never quote a value."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

CONTENT_TYPE = "application/problem+json"
TYPE = "urn:inflight:problem:"
INFERENCE_PROTOCOL = "/v2"
"""Paths of the Open Inference Protocol."""

# The title of each type of problem, and the usual status.
PROBLEMS = {
    "malformed-request": (400, "The request can't be read"),
    "unauthorized": (401, "An API key is needed"),
    "forbidden": (403, "The API key does not allow this"),
    "host-not-allowed": (403, "The host is not allowed"),
    "not-found": (404, "There is nothing at this address"),
    "unknown-model": (404, "There is no such model"),
    "unknown-version": (404, "This version is not in service"),
    "no-similar-rows": (404, "The model has no index of similar rows"),
    "unknown-prediction": (404, "There is no such prediction"),
    "method-not-allowed": (405, "The method is not allowed here"),
    "body-timeout": (408, "The body did not arrive in time"),
    "still-running": (409, "The request is still running"),
    "replay-running": (409, "Another replay is running"),
    "result-gone": (410, "The result is no longer stored"),
    "too-large": (413, "The request is too large"),
    "unsupported-media-type": (415, "The body must be JSON"),
    "invalid-request": (422, "The request is not as it should be"),
    "invalid-features": (422, "The features do not fit the model"),
    "key-reused": (422, "The Idempotency-Key belongs to another request"),
    "too-many-requests": (429, "Too many of your requests are running"),
    "headers-too-large": (431, "The headers are too large"),
    "prediction-error": (500, "The model could not predict"),
    "internal-error": (500, "The gateway has a bug"),
    "overloaded": (503, "The gateway is at its limit"),
    "not-ready": (503, "The gateway is not ready"),
    "stream-unavailable": (503, "The stream did not accept the request"),
    "similar-unavailable": (503, "The index of similar rows can't be read"),
    "history-unavailable": (503, "Elasticsearch does not respond"),
    "prediction-timeout": (504, "The prediction is not there yet"),
}

_BODY_AT_FAULT = ("invalid-request", "invalid-features")


class Problem(Exception):
    """What ends a request. `detail` is for people and names the fix; further members are for programs."""

    def __init__(
        self, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, close: bool = False, **members: Any
    ) -> None:
        """
        Args:
            kind: one of `PROBLEMS`.
            headers: of the response.
            close: close the connection: the rest of the body is not read.
            members: further members of the document; those that are None are left out.
        """
        super().__init__(detail)
        self.kind = kind
        self.status, self.title = PROBLEMS[kind]
        self.detail = detail
        self.headers = dict(headers or {})
        if close:
            self.headers["connection"] = "close"
        self.members = {name: value for name, value in members.items() if value is not None}

    def document(self) -> dict[str, Any]:
        """The problem as JSON values."""
        own = {"type": TYPE + self.kind, "title": self.title, "status": self.status, "detail": self.detail}
        return own | self.members

    def response(self, path: str = "") -> Response:
        """The problem as a response.

        Below `/v2/` also as the Open Inference Protocol wants errors: with the message as `error`, and 400 for a body
        at fault.
        """
        document = self.document()
        if not path.startswith(INFERENCE_PROTOCOL):
            return Response(msgspec.json.encode(document), self.status, self.headers, CONTENT_TYPE)
        status = 400 if self.kind in _BODY_AT_FAULT else self.status
        document = {"error": self.detail} | document | {"status": status}
        return Response(msgspec.json.encode(document), status, self.headers, "application/json")


def busy(kind: str, detail: str, *, seconds: int = 1, close: bool = False, **members: Any) -> Problem:
    """A problem that passes: try again after `seconds`."""
    return Problem(kind, detail, headers={"retry-after": str(seconds)}, close=close, **members)

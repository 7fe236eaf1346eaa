"""What is noted of a call of the API while it is answered, for the log of calls."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

from msgspec import Raw, Struct, field
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NO_ROUTE = "none"
"""The route of paths that no route has: anybody can make them up."""
CLIENT_GONE = 499
"""The status of a call whose client left before it was answered."""
_KEY = "inflight.call"
_TEXT = ("application/json", "application/problem+json", "application/x-ndjson")

Shape = Literal["row", "features", "rows", "tensors", "lines"]
"""How the rows stand in a body: it is the row, its member `features` is it, or its member `rows` holds them. In tensors
each feature stands apart, and some of them are binary: such rows are logged as `rows`. The rows of an upload are the
lines of the body: they are in no `Call.rows`."""


class Call(Struct):
    """One call. `caller` is the name of the key; `request_body` is None unless it has arrived as a whole and is small.

    Routes note what they know: the rows in the body, or that it holds no features (`is_open`). Of other calls, no body
    is logged where features are redacted. `lines` is the number of rows of an upload.
    """

    method: str
    query: bytes
    call_id: str = field(default_factory=lambda: str(uuid4()))
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    route: str = NO_ROUTE
    is_logged: bool = True
    is_open: bool = False
    caller: str = ""
    model: str = ""
    model_version: str = ""
    request_id: str = ""
    problem: str = ""
    traceparent: str = ""
    rows: Sequence[Raw] = ()
    lines: int = 0
    shape: Shape = "row"
    status: int = CLIENT_GONE
    seconds: float = 0.0
    request_bytes: int = 0
    response_bytes: int = 0
    request_body: bytes | None = None
    response_body: bytes | None = None

    @property
    def size(self) -> int:
        """Approximate size in memory, in bytes."""
        rows = sum(len(memoryview(row)) for row in self.rows)
        return 1_000 + len(self.query) + len(self.request_body or b"") + len(self.response_body or b"") + rows


def call_of(request: Request) -> Call:
    """The call that a request belongs to; one that nobody records, if calls are not logged."""
    found = request.scope.get(_KEY)
    if not isinstance(found, Call):
        found = request.scope[_KEY] = Call(request.method, b"")
    return found


class Recorder:
    """ASGI middleware that notes each call and hands it over once it is answered.

    Args:
        app: the application.
        record: gets each call; must neither block nor raise.
        max_bytes: larger bodies are counted, not kept.
    """

    def __init__(self, app: ASGIApp, record: Callable[[Call], None], max_bytes: int) -> None:
        self._app = app
        self._record = record
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        call = scope[_KEY] = Call(scope["method"][:32], scope.get("query_string", b""))
        incoming, outgoing = _Kept(self._max_bytes), _Kept(self._max_bytes)

        async def receive_and_note() -> Message:
            message = await receive()
            if message["type"] == "http.request":
                incoming.add(message.get("body", b""), last=not message.get("more_body", False))
            return message

        async def send_and_note(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
                media_type = Headers(raw=message.get("headers", [])).get("content-type", "")
                outgoing.is_kept = media_type.partition(";")[0] in _TEXT
            elif message["type"] == "http.response.body":
                outgoing.add(message.get("body", b""), last=not message.get("more_body", False))
            await send(message)

        try:
            await self._app(scope, receive_and_note, send_and_note)
        finally:
            # Files, and what a browser asks before it calls, are no calls.
            if call.is_logged and (call.route != NO_ROUTE or call.status >= 400):
                call.seconds = time.perf_counter() - started
                call.request_bytes, call.response_bytes = incoming.size, outgoing.size
                call.request_body, call.response_body = incoming.whole, outgoing.whole
                self._record(call)


class _Kept:
    """A body as it passes: its size, and itself if it is small and complete."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []
        self._complete = False
        self.is_kept = True
        self.size = 0

    def add(self, part: bytes, *, last: bool) -> None:
        self.size += len(part)
        self._complete = last
        if self.size > self._max_bytes:
            self.is_kept = False
            self._parts.clear()
        if self.is_kept and part:
            self._parts.append(part)

    @property
    def whole(self) -> bytes | None:
        """The body; None if it is empty, too large, unfinished or of another type."""
        return b"".join(self._parts) if self._complete and self.is_kept and self._parts else None

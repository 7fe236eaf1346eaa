"""The endpoint of live streams."""

import asyncio
import re
from contextlib import aclosing

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from machine_learning_engineering.registry.uri import NAME
from producers.gateway.addresses import Address
from producers.gateway.calls import call_of
from producers.gateway.live.hub import Hub
from producers.gateway.live.positions import NAMES, Positions, StreamName, read_event_id
from producers.gateway.live.subscription import Subscription
from producers.gateway.problems import Problem

ALL = "all"
LAST_EVENT_ID = "Last-Event-ID"
_MAX_MODELS = 100
_SEPARATOR = re.compile(r"\s*,\s*")


class Live:
    """The endpoint."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def addresses(self) -> list[Address]:
        """The address."""
        return [Address("/v1/streams/{streams}", self.stream, "read")]

    async def stream(self, request: Request, caller: str) -> Response:
        """`GET /v1/streams/{streams}`: server-sent events."""
        call_of(request).is_open = True
        streams = _streams(request.path_params["streams"])
        models = _models(request)
        asked = _asked(request)
        await self._hub.admit(caller)
        return EventStream(self._hub, caller, Subscription(self._hub, streams, models, asked))


class EventStream(Response):
    """The response: written until the client is gone, or the gateway ends."""

    media_type = "text/event-stream"

    def __init__(self, hub: Hub, caller: str, subscription: Subscription) -> None:
        # A proxy that collects what it is sent would hold events back.
        super().__init__(headers={"x-accel-buffering": "no"})
        # As long as what comes.
        del self.headers["content-length"]
        self._hub = hub
        self._caller = caller
        self._subscription = subscription

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve."""
        writing = asyncio.ensure_future(self._write(send))
        leaving = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((writing, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            writing.cancel()
            await asyncio.gather(writing, leaving, return_exceptions=True)
            self._hub.release(self._caller)
        if not writing.cancelled():
            writing.result()

    async def _write(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with aclosing(self._subscription.events()) as events:
            async for content in events:
                await send({"type": "http.response.body", "body": content, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _streams(text: str) -> frozenset[StreamName]:
    wanted = set(_SEPARATOR.split(text))
    found = frozenset(name for name in NAMES if name in wanted or ALL in wanted)
    if wanted - {*NAMES, ALL}:
        message = f"there are the streams {', '.join(NAMES)} and {ALL}; join several with commas"
        raise Problem("not-found", message)
    return found


def _models(request: Request) -> frozenset[str]:
    found = {name for text in request.query_params.getlist("model") for name in _SEPARATOR.split(text) if name}
    if len(found) > _MAX_MODELS or not all(NAME.fullmatch(name) for name in found):
        message = f"model: must be the name of a model, or up to {_MAX_MODELS} of them, joined with commas"
        raise Problem("malformed-request", message, field="model")
    return frozenset(found)


def _asked(request: Request) -> Positions | None:
    """Where the client wants to go on; a browser's own header wins, since it is newer than the address."""
    text = request.headers.get(LAST_EVENT_ID) or request.query_params.get("last_event_id")
    if not text:
        return None
    try:
        return read_event_id(text)
    except ValueError as error:
        message = f"{LAST_EVENT_ID}: {error}: leave it out to begin now"
        raise Problem("malformed-request", message, field=LAST_EVENT_ID) from None

"""Live streams over HTTP: what is asked wrongly, who may ask, and real sockets."""

import asyncio
import http.client
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from producers.gateway.access import Access
from producers.gateway.addresses import Address
from producers.gateway.app import _Ending
from producers.gateway.keys import KeyFile
from producers.gateway.live.endpoints import Live
from producers.gateway.metrics import GatewayMetrics
from producers.gateway.server import listen, new_server
from producers.gateway.settings import GatewaySettings
from tests.support.gateway import gateway
from tests.support.live import Event, EventReader, MemorySource
from tests.support.waiting import until
from tests.unit.producers.gateway.test_live import R0, new_hub, value
from tests.unit.producers.gateway.test_predictions import problem


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("/v1/streams/nothing", 404, "not-found"),
        ("/v1/streams/results,x", 404, "not-found"),
        ("/v1/streams/results?model=A%20B", 400, "malformed-request"),
        ("/v1/streams/results?last_event_id=x", 400, "malformed-request"),
    ],
)
def test_what_a_client_asks_wrongly(tmp_path: Path, path: str, status: int, kind: str) -> None:
    with gateway(tmp_path) as running:
        problem(running.client.get(path), status, kind)


def test_the_scope(tmp_path: Path) -> None:
    key = KeyFile(tmp_path / "gateway-keys.json").add("a", ["predict"])[1]
    with gateway(tmp_path) as running:
        problem(running.client.get("/v1/streams/all", headers={"X-API-Key": key}), 403, "forbidden")
        problem(running.client.get("/v1/streams/all"), 401, "unauthorized")


@contextmanager
def serving(hub_made: list[Any], source: MemorySource) -> Iterator[tuple[int, Any]]:
    """Live streams on a real socket; `hub_made` gets the hub and its loop."""

    async def endpoint(request: Request) -> Response:
        return await Live(hub_made[0]).stream(request, "a")

    server = new_server(
        Starlette(routes=[Route("/v1/streams/{streams}", endpoint)]), connections=9, header_seconds=5, drain_seconds=2
    )

    async def serve() -> None:
        hub_made[:] = [new_hub(source, 20), asyncio.get_running_loop()]
        await server.serve(sockets=[listening])

    with listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        try:
            yield listening.getsockname()[1], server
        finally:
            server.should_exit = True
            if hub_made:
                hub_made[1].call_soon_threadsafe(hub_made[0].drain)
            thread.join(30)
            assert not thread.is_alive()


def test_over_http() -> None:
    """The headers, an event, a client that leaves, and the end of the gateway with an open stream."""
    source, made = MemorySource(R0), []
    with serving(made, source) as (port, server):
        until(lambda: server.started, 30, "it serves")
        hub, loop = made
        connections = [http.client.HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(2)]
        for one in connections:
            one.request("GET", "/v1/streams/results")
        first, second = (one.getresponse() for one in connections)
        assert first.headers["content-type"].startswith("text/event-stream")
        assert first.headers["x-accel-buffering"] == "no"
        reader = EventReader()
        loop.call_soon_threadsafe(source.append, R0, value(1))
        events: list[Event] = []
        while not events:
            events = [one for one in reader.feed(first.readline() + first.readline()) if one.name]
        assert events[0].data["n"] == 1
        assert hub.subscribers == 2
        connections[1].close()
        second.close()
        until(lambda: hub.subscribers == 1, 30, "the client's leaving is noticed")
        loop.call_soon_threadsafe(hub.drain)
        assert b"event: gap" not in first.read(), "the stream ends by itself"
    assert hub.subscribers == 0


def test_how_long_a_client_listens_is_no_latency(tmp_path: Path) -> None:
    """A response without a length counts from its begin: boards and alerts are about how fast a gateway answers."""
    settings = GatewaySettings(_env_file=None, home=tmp_path)  # type: ignore[call-arg]
    metrics = GatewayMetrics()

    async def test() -> None:
        leaves, seen = asyncio.Event(), asyncio.Queue[str]()

        async def pieces() -> AsyncIterator[bytes]:
            yield b": the first\n\n"
            await leaves.wait()

        async def stream(request: Request, caller: str) -> Response:
            return StreamingResponse(pieces())

        async def receive() -> Any:
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            seen.put_nowait(message["type"])

        app = _Ending(Address("/x", stream, None), Access(settings, KeyFile(tmp_path / "keys.json")), metrics)
        scope = {"type": "http", "method": "GET", "path": "/x", "headers": [(b"host", b"127.0.0.1")]}
        serving = asyncio.ensure_future(app(scope | {"path_params": {}, "query_string": b""}, receive, send))
        assert [await seen.get(), await seen.get()] == ["http.response.start", "http.response.body"]
        assert counted() == 1
        leaves.set()
        await serving
        assert counted() == 1

    def counted() -> float | None:
        return metrics.registry.get_sample_value("inflight_gateway_request_seconds_count", {"route": "/x"})

    asyncio.run(test())

"""A gateway without Kafka: a stream in memory, under the same contract tests as the real one, and a test client."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.schemas import ApiCalled, Error, PredictionCompleted, PredictionFailed
from machine_learning_engineering.registry import aliases as alias_file
from machine_learning_engineering.registry import artifacts
from machine_learning_engineering.registry.files import RegistryFiles
from machine_learning_engineering.registry.manifest import Manifest
from producers.gateway.access import Access
from producers.gateway.app import create_app
from producers.gateway.budget import Budget
from producers.gateway.bulk.endpoints import Bulk
from producers.gateway.call_events import CallEvents
from producers.gateway.calls import Call
from producers.gateway.catalog import Catalog
from producers.gateway.keys import KeyFile
from producers.gateway.live.endpoints import Live
from producers.gateway.live.hub import Hub
from producers.gateway.metrics import GatewayMetrics
from producers.gateway.open_inference.endpoints import OpenInference
from producers.gateway.predictor import Predictor
from producers.gateway.recall import Entry, Position, Recall, Seen
from producers.gateway.routes import Routes
from producers.gateway.settings import GatewaySettings
from producers.gateway.stream import History, NewRequest, NoHistory, NotAccepted
from tests.support.live import MemorySource


class Topics:
    """The topics of requests, results and labels in memory, and the gateways that follow them."""

    def __init__(self) -> None:
        self.requests: list[NewRequest] = []
        self.results: list[tuple[NewRequest, bytes]] = []
        self.labels: list[bytes] = []
        self.deleted = 0
        """Results that retention has deleted."""
        self.streams: list[MemoryStream] = []

    def append(self, request: NewRequest) -> None:
        self.requests.append(request)
        self._tell(_seen_request(request))

    def answer(self, request: NewRequest, result: bytes) -> None:
        self.results.append((request, result))
        self._tell(_seen_result(request, result, len(self.results) - 1))

    def records(self) -> list[Seen]:
        """What a gateway that starts now reads."""
        answers = [_seen_result(*pair, offset) for offset, pair in enumerate(self.results)]
        return [_seen_request(request) for request in self.requests] + answers[self.deleted :]

    def _tell(self, seen: Seen) -> None:
        for stream in self.streams:
            stream.recall.note([seen])


class MemoryStream:
    """A `Stream` on `Topics`.

    Args:
        topics: of the deployment.
        max_bytes: of results that it keeps.
    """

    def __init__(self, topics: Topics, max_bytes: int = 1 << 20, max_requests: int = 1_000) -> None:
        self.topics = topics
        self.recall = Recall(max_requests, max_bytes)
        self.recall.note(topics.records())
        self.problem = ""
        self.refusal: NotAccepted | None = None
        topics.streams.append(self)

    def known(self, request_id: str) -> Entry | None:
        return self.recall.get(request_id)

    def claim(self, request_id: str, model: str, fingerprint: str) -> "asyncio.Future[Entry]":
        return self.recall.claim(request_id, model, fingerprint)

    def release(self, request_id: str, future: "asyncio.Future[Entry]", *, published: bool) -> None:
        self.recall.release(request_id, future, published=published)

    async def publish(self, requests: Sequence[NewRequest]) -> list[NotAccepted | None]:
        await asyncio.sleep(0)
        for request in requests:
            if self.refusal is None:
                self.topics.append(request)
        return [self.refusal] * len(requests)

    async def publish_label(self, key: bytes, value: bytes) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.topics.labels.append(value)

    async def read_result(self, entry: Entry) -> bytes | None:
        if entry.result is not None or entry.position is None:
            return entry.result
        offset = entry.position.offset
        return self.topics.results[offset][1] if offset >= self.topics.deleted else None


def _seen_request(request: NewRequest) -> Seen:
    model = events.decode_request(request.value).model
    return Seen("request", request.request_id, model, request.fingerprint, Position(0, 0))


def _seen_result(request: NewRequest, result: bytes, offset: int) -> Seen:
    model = events.decode_request(request.value).model
    return Seen("result", request.request_id, model, request.fingerprint, Position(0, offset), result)


def score(request: NewRequest, version: str = "v1") -> bytes:
    """The result of a model that doubles `number`; it refuses negative ones, and fails at 13."""
    event = events.decode_request(request.value)
    now = datetime.now(UTC)
    number = msgspec.json.decode(event.features).get("number")
    if not isinstance(number, int | float) or number < 0:
        error = Error("invalid_features", "feature `number` must be a number of at least 0")
    elif number == 13:
        error = Error("prediction_error", "model line: predict raised ValueError at line.py:1")
    else:
        prediction = Raw(msgspec.json.encode({"answer": 2 * number}))
        return events.encode(PredictionCompleted(request.request_id, event.model, version, prediction, now, now))
    return events.encode(PredictionFailed(request.request_id, event.model, error, now, now, version))


def put_model(
    registry: Path,
    name: str = "line",
    noun: str = "double",
    *,
    files: Mapping[str, bytes] | None = None,
    **changes: Any,
) -> str:
    """Put a new champion into a registry, as far as a gateway reads it; return the version."""
    schema = {
        "$ref": "#/$defs/Number",
        "$defs": {
            "Number": {
                "title": "Number",
                "type": "object",
                "description": "One number.",
                "properties": {"number": {"type": "number", "minimum": 0, "examples": [21.0]}},
                "required": ["number"],
                "additionalProperties": False,
            }
        },
    }
    answer = {
        "type": "object",
        "properties": {"answer": {"type": "number"}},
        "required": ["answer"],
    }
    manifest = Manifest(
        name=name,
        version="",
        created_at=datetime.now(UTC),
        files={},
        metrics={"r2": 0.9},
        primary_metric="r2",
        params={},
        features_schema=schema,
        training_data_sha256="",
        seed=1,
        scikit_learn_version="1",
        prediction_schema=answer,
        prediction_name=noun,
        redacted_features={},
    )
    version = artifacts.add(RegistryFiles(registry), files or {}, msgspec.structs.replace(manifest, **changes))
    with alias_file.edit(RegistryFiles(registry), name) as aliases:
        aliases["champion"] = version
    return version


class Running(NamedTuple):
    """A gateway in this process. `run` calls a function in its event loop."""

    client: TestClient
    topics: Topics
    stream: MemoryStream
    settings: GatewaySettings
    predictor: Predictor
    keys: KeyFile
    hub: Hub
    bulk: Bulk
    catalog: Catalog
    calls: list[Call]
    """What was recorded, as the log of calls gets it."""

    def events(self) -> list[ApiCalled]:
        """The recorded calls as events."""
        encode = CallEvents(self.settings, self.catalog)
        return [encode(call) for call in self.calls]

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        async def call() -> Any:
            return function(*arguments)

        assert self.client.portal is not None
        return self.client.portal.call(call)

    def answer_all(self) -> None:
        """Be the worker: answer every request that has no result."""
        answered = {request.request_id for request, _ in self.topics.results}
        for request in self.topics.requests:
            if request.request_id not in answered:
                answered.add(request.request_id)
                self.run(self.topics.answer, request, score(request))


class _Answering(Topics):
    """Topics with a worker that answers at once."""

    def append(self, request: NewRequest) -> None:
        super().append(request)
        self.answer(request, score(request))


@contextmanager
def gateway(
    home: Path,
    *,
    topics: Topics | None = None,
    history: History | None = None,
    max_bytes: int = 1 << 20,
    source: MemorySource | None = None,
    **settings: Any,
) -> Iterator[Running]:
    """A gateway with a model `line` and, unless `topics` are given, a worker that answers at once."""
    if not (home / "registry").exists():
        put_model(home / "registry")
    configured = GatewaySettings(_env_file=None, home=home, **settings)  # type: ignore[call-arg]
    built: list[Running] = []

    class Lazy:
        """Builds the application in the client's event loop."""

        app: ASGIApp | None = None

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await receive()
                await send({"type": "lifespan.startup.complete"})
                await receive()
                await send({"type": "lifespan.shutdown.complete"})
                return
            if self.app is None:
                self.app = self._build()
            await self.app(scope, receive, send)

        def _build(self) -> ASGIApp:
            keys = KeyFile(configured.gateway_keys_file)
            keys.refresh()
            catalog = Catalog(configured.registry_dir)
            catalog.refresh()
            stream = MemoryStream(_Answering() if topics is None else topics, max_bytes)
            predictor = Predictor(stream, history or NoHistory(), configured.gateway_max_rows)
            budget = Budget(
                configured.gateway_max_in_flight,
                configured.gateway_max_in_flight_per_caller,
                configured.gateway_max_in_flight_bytes,
            )
            routes = Routes(configured, stream, predictor, catalog, budget)
            access = Access(configured, keys)
            calls: list[Call] = []
            inference = OpenInference(configured, stream, predictor, catalog, budget)
            bulk = Bulk(configured, stream, predictor, catalog, budget, routes.predict)
            hub = Hub(
                source or MemorySource(),
                configured.gateway_stream_backlog,
                configured.gateway_max_streams,
                configured.gateway_max_streams_per_caller,
            )
            more = [*inference.addresses(), *bulk.addresses(), *Live(hub).addresses()]
            built.append(Running(client, stream.topics, stream, configured, predictor, keys, hub, bulk, catalog, calls))
            origins, limit = configured.gateway_cors_origins, configured.gateway_call_body_bytes
            return create_app(routes, access, GatewayMetrics(), origins, more, calls.append, limit)

    with TestClient(Lazy(), base_url="http://127.0.0.1:8080", raise_server_exceptions=False) as client:
        client.get("/v2/health/live")
        yield built[0]

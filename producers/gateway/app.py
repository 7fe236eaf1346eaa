"""The gateway as an ASGI application: routes, who may call them, and how every request ends."""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

from starlette.applications import Starlette
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producers.gateway import docs_page
from producers.gateway.access import ANYBODY, Access
from producers.gateway.addresses import Address, Endpoint
from producers.gateway.answers import MODEL_VERSION
from producers.gateway.calls import Call, Recorder, call_of
from producers.gateway.catalog import RESERVED
from producers.gateway.keys import Scope as KeyScope
from producers.gateway.metrics import GatewayMetrics
from producers.gateway.problems import PROBLEMS, Problem
from producers.gateway.routes import Routes, response_headers
from producers.gateway.unread import UnreadBodies

logger = logging.getLogger(__name__)

SECURITY_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
EXPOSED_HEADERS = [
    "Inference-Header-Content-Length",
    "Location",
    "Retry-After",
    "traceparent",
    "X-Model-Version",
    "X-Request-Id",
]
ALLOWED_HEADERS = [
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "Inference-Header-Content-Length",
    "Last-Event-ID",
    "Prefer",
    "traceparent",
    "tracestate",
    "X-API-Key",
    "X-Record-Key",
]


class _ModelName(StringConvertor):
    """The model in a route of its own: not what begins other addresses, which would answer 404 in place of 405."""

    regex = rf"(?!(?:{'|'.join(sorted(RESERVED))})/)[^/]+"


class _PredictionName(StringConvertor):
    """What a model predicts: not the similar rows, which are beside it."""

    regex = "(?!similar$)[^/]+"


class _LetterAddress(StringConvertor):
    """The address of a dead letter: not the replay, which is beside it."""

    regex = "(?!replay$)[^/]+"


register_url_convertor("model", _ModelName())
register_url_convertor("prediction", _PredictionName())
register_url_convertor("letter", _LetterAddress())
_NARROW = {
    "/v1/{model}/": "/v1/{model:model}/",
    "/{prediction}": "/{prediction:prediction}",
    "/dead-letters/{address}": "/dead-letters/{address:letter}",
}


def create_app(
    routes: Routes,
    access: Access,
    metrics: GatewayMetrics,
    cors_origins: tuple[str, ...],
    more: Iterable[Address] = (),
    record: Callable[[Call], None] | None = None,
    max_recorded_bytes: int = 0,
) -> ASGIApp:
    """The application.

    Args:
        routes: the endpoints.
        access: who may call them.
        metrics: updated for each request.
        cors_origins: origins whose pages may call it.
        more: addresses beside those of `routes`; they come first.
        record: gets each call of a route that needs a key, and of unknown paths, see `calls.Recorder`.
        max_recorded_bytes: larger bodies are not among what is recorded.
    """

    # Prometheus does not see the first value of a series: so each has one before something goes wrong.
    for kind in PROBLEMS:
        metrics.problems.labels(kind.replace("-", "_"))

    def route(
        path: str, endpoint: Endpoint, scope: KeyScope | None, method: str = "GET", is_logged: bool = True
    ) -> Route:
        one = Address(path, endpoint, scope, method, is_logged)
        pattern = path
        for plain, narrow in _NARROW.items():
            pattern = pattern.replace(plain, narrow)
        return Route(pattern, _Ending(one, access, metrics), methods=[method])

    starlette = Starlette(
        routes=[
            *(route(*one) for one in more),
            route("/v2/health/live", routes.live, None),
            route("/v2/health/ready", routes.ready, None),
            route("/openapi.json", routes.openapi, None),
            route("/docs", docs_page.page, None),
            Mount("/docs", docs_page.DocsFiles()),
            route("/v1/models", routes.list_models, "read"),
            route("/v1/models/{model}", routes.show_model, "read"),
            route("/v1/models/{model}/predictions", routes.predict, "predict", "POST"),
            route("/v1/predictions/{request_id:path}/label", routes.report_label, "label", "POST"),
            route("/v1/predictions/{request_id:path}", routes.show_prediction, "read"),
            route("/v1/{model}/similar", routes.show_similar, "read"),
            route("/v1/{model}/{prediction}", routes.predict_friendly, "predict", "POST"),
        ],
        middleware=[
            Middleware(
                CORSMiddleware,
                allow_origins=list(cors_origins),
                allow_methods=["GET", "POST"],
                allow_headers=ALLOWED_HEADERS,
                expose_headers=EXPOSED_HEADERS,
                max_age=600,
            )
        ]
        if cors_origins
        else [],
        exception_handlers={HTTPException: _http_exception},
    )
    # The redirect would repeat what the client says its host is.
    starlette.router.redirect_slashes = False
    app: ASGIApp = starlette if record is None else Recorder(starlette, record, max_recorded_bytes)
    return UnreadBodies(SecurityHeaders(app))


class _Ending:
    """An endpoint as an ASGI application: checks access, counts and times, and answers problems."""

    def __init__(self, address: Address, access: Access, metrics: GatewayMetrics) -> None:
        self._path, self._endpoint, self._scope = address.path, address.endpoint, address.scope
        self._is_logged = address.is_logged and address.scope is not None
        self._access = access
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        request = Request(scope, receive)
        call = call_of(request)
        call.route, call.is_logged = self._path, self._is_logged
        call.model, call.request_id = (request.path_params.get(name, "") for name in ("model", "request_id"))
        try:
            self._access.check_host(request)
            caller = ANYBODY if self._scope is None else self._access.caller(request, self._scope)
            response = await self._endpoint(request, caller)
        except Problem as problem:
            call.problem = problem.kind
            self._metrics.problems.labels(problem.kind.replace("-", "_")).inc()
            response = problem.response(self._path)
        except Exception:
            # Without the message of the exception, which may quote a value.
            logger.exception("%s %s failed", request.method, self._path, extra={"about_request": True})
            call.problem = "internal-error"
            self._metrics.problems.labels("internal_error").inc()
            response = Problem("internal-error", "the service log says more; try again").response(self._path)
        for name, value in response_headers(request).items():
            response.headers[name] = value
        call.model_version = unquote(response.headers.get(MODEL_VERSION, ""))
        self._metrics.requests.labels(self._path, request.method, str(response.status_code)).inc()
        if "content-length" in response.headers:
            await response(scope, receive, send)
            self._observe(started)
        else:
            await response(scope, receive, self._until_its_begin(started, send))

    def _observe(self, started: float) -> None:
        self._metrics.seconds.labels(self._path).observe(time.perf_counter() - started)

    def _until_its_begin(self, started: float, send: Send) -> Send:
        """Time a live stream or an upload, which goes on for as long as its client listens or sends."""

        async def send_and_time(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                self._observe(started)

        return send_and_time


class SecurityHeaders:
    """Adds the headers that every response has, unless the response says otherwise."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
                present = {name.lower() for name, _ in headers}
                message["headers"] = headers + [one for one in SECURITY_HEADERS if one[0] not in present]
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def _http_exception(request: Request, error: Exception) -> Response:
    """The router's own errors as problems."""
    assert isinstance(error, HTTPException)
    headers: Any = error.headers or {}
    call_of(request).problem = {404: "not-found", 405: "method-not-allowed"}.get(error.status_code, "malformed-request")
    problem = Problem("malformed-request", "the request can't be read")
    if error.status_code == 405:
        problem = Problem("method-not-allowed", "see /openapi.json for the methods", headers=headers)
    elif error.status_code == 404:
        problem = Problem("not-found", "see /openapi.json for the addresses")
    return problem.response(request.url.path)

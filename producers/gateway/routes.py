"""The routes: what each of them reads, asks and answers."""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
from msgspec import UNSET, Raw
from starlette.requests import Request
from starlette.responses import Response

from machine_learning_engineering.core.timestamps import to_utc
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.labels import MAX_AHEAD, MAX_LABEL_BYTES
from machine_learning_engineering.events.schemas import LabelReported
from machine_learning_engineering.observability.trace import TRACEPARENT
from producers.gateway import answers, similar
from producers.gateway.bodies import (
    LabelBody,
    Limits,
    PredictionBody,
    declared_size,
    decode,
    read_body,
    require_objects,
)
from producers.gateway.budget import Budget
from producers.gateway.calls import call_of
from producers.gateway.catalog import Catalog, ServedModel, served_model
from producers.gateway.openapi import document
from producers.gateway.orders import new_order, preference, require_small
from producers.gateway.predictor import Predictor
from producers.gateway.problems import Problem, busy
from producers.gateway.settings import GatewaySettings
from producers.gateway.stream import NotAccepted, Stream

_MAX_ID = 256


class Routes:
    """The endpoints. Each gets the request and the id of the caller.

    Args:
        settings: of the gateway.
        stream: where requests and labels are published.
        predictor: orders and finds predictions.
        catalog: the models in service.
        budget: of what may be in progress.
    """

    def __init__(
        self, settings: GatewaySettings, stream: Stream, predictor: Predictor, catalog: Catalog, budget: Budget
    ) -> None:
        self._settings = settings
        self._stream = stream
        self._predictor = predictor
        self._catalog = catalog
        self._budget = budget
        self._limits = Limits.of(settings)
        self._document: tuple[int, bytes] = (-1, b"")

    async def predict(self, request: Request, caller: str) -> Response:
        """`POST /v1/models/{model}/predictions`."""
        model = served_model(self._catalog, request.path_params["model"])
        example = {"features": model.example}
        with self._budget.hold_rows(caller, 1, close=True), self._hold_body(request, self._limits):
            body = decode(await read_body(request, self._limits), PredictionBody, self._limits, example)
            if (body.features is UNSET) == (body.rows is UNSET):
                message = "send either `features`, one row, or `rows`, a list of rows"
                raise Problem("invalid-request", message, field="features", example=example)
            many = isinstance(body.rows, list)
            rows = body.rows if isinstance(body.rows, list) else [cast(Raw, body.features)]
            return await self._order(request, caller, model, rows, many=many, example=example)

    async def predict_friendly(self, request: Request, caller: str) -> Response:
        """`POST /v1/{model}/{prediction}`: the body is the row, and the answer the prediction."""
        model = served_model(self._catalog, request.path_params["model"])
        if request.path_params["prediction"] != model.prediction_name:
            raise Problem("not-found", f"predictions of {model.name} are at {model.path}")
        with self._budget.hold_rows(caller, 1, close=True), self._hold_body(request, self._limits):
            row = decode(await read_body(request, self._limits), Raw, self._limits, model.example)
            return await self._order(request, caller, model, [row], many=False, example=model.example, friendly=True)

    async def _order(
        self,
        request: Request,
        caller: str,
        model: ServedModel,
        rows: list[Raw],
        *,
        many: bool,
        example: Any,
        friendly: bool = False,
    ) -> Response:
        settings = self._settings
        name = "rows" if many else "body" if friendly else "features"
        if not 0 < len(rows) <= settings.gateway_max_rows:
            message = f"rows: send 1 to {settings.gateway_max_rows:,} rows at a time"
            raise Problem("invalid-request", message, field="rows", example=example)
        require_objects(rows, name, example)
        order = new_order(request.headers, model.name, rows, many=many)
        call = call_of(request)
        call.model, call.request_id, call.traceparent = model.name, order.request_id, order.traceparent
        call.rows, call.shape = rows, "rows" if many else "row" if friendly else "features"
        require_small(order, settings.max_request_bytes)
        wish = preference(request.headers.get("prefer", ""))
        seconds = settings.gateway_deadline if wish.seconds is None else wish.seconds
        if wish.respond_async and wish.seconds is None:
            seconds = 0.0
        request.state.traceparent = order.traceparent
        # One of the rows is held already.
        with self._budget.hold_rows(caller, len(rows) - 1):
            results = await self._predictor.order(order, min(seconds, settings.gateway_max_deadline))
        done = [one for one in results if one is not None]
        if len(done) < len(results):
            if friendly and not wish.respond_async:
                # Whoever calls such a route counts on an answer; a 202 would look like one.
                raise answers.timeout(order.request_id)
            return answers.running(order.request_id)
        if many:
            return answers.many(order.request_id, done, model)
        return answers.one(done[0], model, flat=friendly)

    def _hold_body(self, request: Request, limits: Limits) -> AbstractContextManager[None]:
        """Hold the memory of a body that is not read yet."""
        return self._budget.hold_bytes(declared_size(request, limits))

    async def show_prediction(self, request: Request, caller: str) -> Response:
        """`GET /v1/predictions/{request_id}`."""
        request_id = _request_id(request)
        call_of(request).is_open = True
        if problem := self._stream.problem:
            raise busy("not-ready", f"{problem}: try again")
        found = await self._predictor.find(request_id)
        done = [one for one in found.results if one is not None]
        if len(done) < len(found.results):
            return answers.running(request_id)
        if found.many:
            return answers.many(request_id, done, None)
        return answers.one(done[0], None, flat=False)

    async def report_label(self, request: Request, caller: str) -> Response:
        """`POST /v1/predictions/{request_id}/label`."""
        request_id = _request_id(request)
        limits = msgspec.structs.replace(self._limits, max_bytes=MAX_LABEL_BYTES - 2 * 1024)
        example = {"label": 326}
        with self._budget.hold_rows(caller, 1, close=True), self._hold_body(request, limits):
            body = decode(await read_body(request, limits), LabelBody, limits, example)
            call_of(request).is_open = True
            now = datetime.now(UTC)
            observed_at = now if body.observed_at is UNSET else to_utc(body.observed_at)
            if observed_at - now > MAX_AHEAD:
                message = "observed_at: is more than 5 minutes ahead; report labels once they are known"
                raise Problem("invalid-request", message, field="observed_at", example=example)
            if problem := self._stream.problem:
                raise busy("not-ready", f"{problem}: try again")
            model = await self._predictor.model_of(request_id)
            if model is None:
                if body.model is UNSET:
                    message = "no request with this id is known here: check the id, or name its `model` in the body"
                    raise Problem("unknown-prediction", message, field="model", request_id=request_id)
                model = served_model(self._catalog, body.model).name
            call_of(request).model = model
            event = LabelReported(request_id, model, body.label, observed_at)
            try:
                await self._stream.publish_label(request_id.encode(), events.encode(event))
            except NotAccepted as error:
                raise busy("stream-unavailable", f"{error}: report it again", request_id=request_id) from None
        content = {"request_id": request_id, "model": model, "status": "accepted"}
        return answers.json_response(content, 202)

    async def list_models(self, request: Request, caller: str) -> Response:
        """`GET /v1/models`."""
        call_of(request).is_open = True
        await self._refresh()
        return answers.json_response({"models": [_shown(one) for one in self._catalog.models.values()]})

    async def show_model(self, request: Request, caller: str) -> Response:
        """`GET /v1/models/{model}`."""
        call_of(request).is_open = True
        await self._refresh()
        return answers.json_response(_shown(served_model(self._catalog, request.path_params["model"])))

    async def show_similar(self, request: Request, caller: str) -> Response:
        """`GET /v1/{model}/similar`."""
        model = served_model(self._catalog, request.path_params["model"])
        found = similar.answer(model, request.query_params)
        return answers.json_response(found, headers={answers.MODEL_VERSION: answers.header(model.version)})

    async def openapi(self, request: Request, caller: str) -> Response:
        """`GET /openapi.json`."""
        await self._refresh()
        if self._document[0] != self._catalog.revision:
            self._document = (self._catalog.revision, msgspec.json.encode(document(self._catalog.models)))
        return Response(self._document[1], media_type="application/json")

    async def live(self, request: Request, caller: str) -> Response:
        """`GET /v2/health/live`."""
        return answers.json_response({"status": "live", "live": True})

    async def ready(self, request: Request, caller: str) -> Response:
        """`GET /v2/health/ready`: true once all positions are known and everything before is read."""
        if problem := self._stream.problem:
            raise busy("not-ready", f"{problem}: wait")
        return answers.json_response({"status": "ready", "ready": True})

    async def _refresh(self) -> None:
        # What is shown is never older than the registry.
        await asyncio.to_thread(self._catalog.refresh)


def response_headers(request: Request) -> Mapping[str, str]:
    """Headers that belong to any response to this request."""
    traceparent = getattr(request.state, "traceparent", "")
    return {TRACEPARENT: traceparent} if traceparent else {}


def _request_id(request: Request) -> str:
    request_id: str = request.path_params["request_id"]
    if not 0 < len(request_id) <= _MAX_ID:
        raise Problem("malformed-request", f"a request id has 1 to {_MAX_ID} characters", field="request_id")
    try:
        request_id.encode()
    except UnicodeEncodeError:
        raise Problem("malformed-request", "the request id is not UTF-8", field="request_id") from None
    return request_id


def _shown(model: ServedModel) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.structs.asdict(model)
    del shown["prediction_name"], shown["redacted_features"], shown["similar_problem"]
    return shown | {"path": model.path, "similar": similar.shown(model)}

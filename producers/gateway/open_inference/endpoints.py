"""The endpoints of the Open Inference Protocol: health is among `routes`, since it is everybody's."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from machine_learning_engineering.core.json_values import is_deeper
from machine_learning_engineering.core.version import __version__
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.schemas import PredictionCompleted
from machine_learning_engineering.registry.uri import LATEST
from producers.gateway import answers
from producers.gateway.addresses import Address
from producers.gateway.bodies import Limits, declared_size, decode, media_type, read_body
from producers.gateway.budget import Budget
from producers.gateway.calls import call_of
from producers.gateway.catalog import Catalog, ServedModel, served_model
from producers.gateway.open_inference import signature
from producers.gateway.open_inference.tensors import InputTensor, InvalidTensor, OutputTensor, encoded
from producers.gateway.orders import new_order, preference, require_small
from producers.gateway.predictor import Predictor, location
from producers.gateway.problems import Problem, busy
from producers.gateway.settings import GatewaySettings
from producers.gateway.stream import Stream

JSON_LENGTH = "Inference-Header-Content-Length"
"""Header: the length of the JSON part; the values of the binary tensors follow."""
_MODEL = "/v2/models/{model}"
_VERSION = _MODEL + "/versions/{version}"


class WantedOutput(Struct, frozen=True):
    """An output that a request asks for."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(Struct, frozen=True):
    """The JSON part of a request. Other members are ignored, as the protocol wants."""

    inputs: list[InputTensor]
    id: str | UnsetType = UNSET
    parameters: dict[str, Any] = {}
    outputs: list[WantedOutput] = []


class _Inference(NamedTuple):
    """A request that was read."""

    body: InferRequest
    rows: list[Raw]
    seconds: float
    outputs: dict[str, str]
    """What is asked for, with the model's name of it."""


class OpenInference:
    """The endpoints. See `Routes`, which has those of the gateway's own interface."""

    def __init__(
        self, settings: GatewaySettings, stream: Stream, predictor: Predictor, catalog: Catalog, budget: Budget
    ) -> None:
        self._settings = settings
        self._stream = stream
        self._predictor = predictor
        self._catalog = catalog
        self._budget = budget
        self._limits = Limits.of(settings)

    def addresses(self) -> list[Address]:
        """Each with and without a version: clients use both."""
        return [Address("/v2", self.server, "read")] + [
            address
            for path in (_MODEL, _VERSION)
            for address in (
                Address(path, self.model, "read"),
                Address(f"{path}/ready", self.ready, "read"),
                Address(f"{path}/infer", self.infer, "predict", "POST"),
            )
        ]

    async def server(self, request: Request, caller: str) -> Response:
        """`GET /v2`."""
        call_of(request).is_open = True
        content = {"name": "inflight", "version": __version__, "extensions": ["binary_tensor_data"]}
        return answers.json_response(content)

    async def model(self, request: Request, caller: str) -> Response:
        """`GET /v2/models/{model}`: the tensors."""
        call_of(request).is_open = True
        return answers.json_response(signature.metadata(self._model(request)))

    async def ready(self, request: Request, caller: str) -> Response:
        """`GET /v2/models/{model}/ready`."""
        call_of(request).is_open = True
        model = self._model(request)
        if problem := self._stream.problem:
            raise busy("not-ready", f"{problem}: wait")
        return answers.json_response({"name": model.name, "ready": True})

    async def infer(self, request: Request, caller: str) -> Response:
        """`POST /v2/models/{model}/infer`."""
        model = self._model(request)
        _require_program(request)
        size = declared_size(request, self._limits, json=False)
        with self._budget.hold_rows(caller, 1, close=True), self._budget.hold_bytes(size):
            asked = self._read(request, model, await read_body(request, self._limits))
            order = new_order(_headers(request, asked.body), model.name, asked.rows, many=len(asked.rows) > 1)
            call = call_of(request)
            call.request_id, call.traceparent = order.request_id, order.traceparent
            call.rows, call.shape = asked.rows, "tensors"
            require_small(order, self._settings.max_request_bytes)
            request.state.traceparent = order.traceparent
            # One of the rows is held already.
            with self._budget.hold_rows(caller, len(asked.rows) - 1):
                results = await self._predictor.order(order, asked.seconds)
        done = [one for one in results if one is not None]
        if len(done) < len(results):
            raise answers.timeout(order.request_id)
        completed = _completed(order.request_id, done, model)
        version = completed[-1].model_version
        if _version(request, version) != version:
            message = (
                f"{_served(model.name, version)} since a moment ago; its result is at {location(order.request_id)}"
            )
            raise Problem("unknown-version", message, request_id=order.request_id)
        found = signature.predictions(model, [one.prediction for one in completed], list(asked.outputs.values()))
        # Under the names that the client knows.
        tensors = [one._replace(name=name) for name, one in zip(asked.outputs, found, strict=True)]
        return _response(order.request_id, model.name, version, tensors, _binary(asked))

    def _model(self, request: Request) -> ServedModel:
        model = served_model(self._catalog, request.path_params["model"])
        if _version(request, model.version) != model.version:
            raise Problem("unknown-version", _served(model.name, model.version))
        return model

    def _read(self, request: Request, model: ServedModel, content: bytes) -> _Inference:
        length = _json_length(request, content)
        body = decode(content[:length], InferRequest, self._limits, _example(model))
        most = self._settings.gateway_max_rows
        if any(one.shape and one.shape[0] > most for one in body.inputs):
            raise Problem("too-large", f"inputs: send at most {most:,} rows at a time")
        try:
            rows = signature.rows_of(model, body.inputs, content[length:])
        except InvalidTensor as error:
            raise Problem("malformed-request", str(error), field="inputs", example=_example(model)) from None
        if any(is_deeper(bytes(row), self._limits.max_depth) for row in rows):
            message = f"inputs: a row is nested more than {self._limits.max_depth} levels deep: make it flatter"
            raise Problem("malformed-request", message, field="inputs")
        return _Inference(body, rows, self._seconds(request, body), _wanted(model, body.outputs))

    def _seconds(self, request: Request, body: InferRequest) -> float:
        """How long to wait: as the header says, or the parameter `timeout`, in microseconds."""
        settings = self._settings
        seconds = preference(request.headers.get("prefer", "")).seconds
        timeout = body.parameters.get("timeout")
        if seconds is None and timeout is not None:
            if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0:
                message = "parameters.timeout: must be a number of microseconds"
                raise Problem("malformed-request", message, field="parameters.timeout")
            seconds = timeout / 1e6 if math.isfinite(timeout) and timeout else None
        return min(settings.gateway_deadline if seconds is None else seconds, settings.gateway_max_deadline)


def _version(request: Request, default: str) -> str:
    """The version of the address. `latest` is the one in service; numbers may lack the letter, as in model URIs."""
    version: str = request.path_params.get("version", LATEST)
    if version == LATEST:
        return default
    return f"v{version}" if version.isdigit() else version


def _require_program(request: Request) -> None:
    """Check that no web page of another origin sends this without having been allowed to.

    Clients of the protocol say no media type or any. A page may send the same without asking, except with a header of
    its own; and its browser says where it comes from.
    """
    if media_type(request) == "application/json" or JSON_LENGTH in request.headers:
        return
    if "origin" in request.headers or "sec-fetch-site" in request.headers:
        message = "send JSON with the header Content-Type: application/json"
        raise Problem("unsupported-media-type", message, close=True)


def _json_length(request: Request, content: bytes) -> int:
    declared = request.headers.get(JSON_LENGTH)
    if declared is None:
        return len(content)
    if not (declared.isascii() and declared.isdigit() and len(declared) < 16) or int(declared) > len(content):
        message = f"{JSON_LENGTH}: must be the length of the JSON part of the body, in bytes"
        raise Problem("malformed-request", message, field=JSON_LENGTH)
    return int(declared)


def _headers(request: Request, body: InferRequest) -> dict[str, str]:
    """The headers that an order has, with the `id` as the `Idempotency-Key`."""
    headers = dict(request.headers)
    if body.id is UNSET or not body.id:
        return headers
    if headers.get("idempotency-key", body.id) != body.id:
        message = "id: differs from the header Idempotency-Key, and both are the id of the request: send one of them"
        raise Problem("malformed-request", message, field="id")
    return headers | {"idempotency-key": body.id}


def _wanted(model: ServedModel, outputs: Sequence[WantedOutput]) -> dict[str, str]:
    known = signature.output_names(model)
    wanted = {}
    for one in outputs:
        name = signature.spelled(one.name, known)
        if name is None:
            raise Problem("malformed-request", f"outputs: the model has {', '.join(known)}", field="outputs")
        if one.parameters.get("classification"):
            message = "outputs: classification is not supported: leave it out, and get the prediction's own fields"
            raise Problem("malformed-request", message, field="outputs")
        wanted[one.name] = name
    return wanted or {name: name for name in known}


def _binary(asked: _Inference) -> frozenset[str]:
    """The outputs that the client wants in the binary part."""
    usual = asked.body.parameters.get("binary_data_output") is True
    own = {one.name: one.parameters.get("binary_data") for one in asked.body.outputs}
    return frozenset(name for name in asked.outputs if (usual if own.get(name) is None else own[name] is True))


def _completed(request_id: str, results: Sequence[bytes], model: ServedModel) -> list[PredictionCompleted]:
    """The predictions of all rows.

    Raises:
        Problem: one has none. The protocol knows no partial success.
    """
    completed = []
    for number, result in enumerate(results):
        event = events.decode_result(result)
        if not isinstance(event, PredictionCompleted):
            problem = answers.failure(event, model)
            if len(results) > 1:
                problem.detail = (
                    f"row {number} of {len(results)}: {problem.detail}; the results of all rows are at "
                    f"{location(request_id)}"
                )
            raise problem
        completed.append(event)
    return completed


def _response(
    request_id: str, model: str, version: str, tensors: Sequence[OutputTensor], binary: frozenset[str]
) -> Response:
    heads, part = encoded(tensors, binary)
    content = {"model_name": model, "model_version": version, "id": request_id, "outputs": heads}
    headers = {answers.REQUEST_ID: answers.header(request_id), answers.MODEL_VERSION: answers.header(version)}
    if not binary:
        return answers.json_response(content, 200, headers)
    json = msgspec.json.encode(content)
    return Response(json + part, 200, headers | {JSON_LENGTH: str(len(json))}, "application/octet-stream")


def _served(model: str, version: str) -> str:
    return f"version: {version} is the version of {model} in service; use it, or leave the version out"


def _example(model: ServedModel) -> dict[str, Any]:
    text = msgspec.json.encode(model.example).decode()
    return {"inputs": [{"name": signature.FEATURES, "datatype": "BYTES", "shape": [1], "data": [text]}]}

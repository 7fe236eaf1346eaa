"""The endpoint of bulk uploads: the address of predictions, for bodies of another media type."""

import asyncio
from contextlib import ExitStack
from uuid import uuid4

from msgspec import Raw
from starlette.requests import Request
from starlette.responses import Response

from producers.gateway.addresses import Address, Endpoint
from producers.gateway.bodies import Limits, media_type
from producers.gateway.budget import Budget
from producers.gateway.bulk.upload import NDJSON, Plan, Upload
from producers.gateway.calls import call_of
from producers.gateway.catalog import Catalog, served_model
from producers.gateway.orders import Order, new_order, preference
from producers.gateway.predictor import Predictor
from producers.gateway.problems import Problem, busy
from producers.gateway.settings import GatewaySettings
from producers.gateway.stream import Stream

_LINE_ID = ":"
"""Between the id of an upload and the number of a line."""
_HIGHEST_LINE = 10**12


class Bulk:
    """Takes uploads.

    Args:
        otherwise: takes bodies of other media types at the same address.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        stream: Stream,
        predictor: Predictor,
        catalog: Catalog,
        budget: Budget,
        otherwise: Endpoint,
    ) -> None:
        self._settings = settings
        self._stream = stream
        self._predictor = predictor
        self._catalog = catalog
        self._budget = budget
        self._otherwise = otherwise
        self._stopping = asyncio.Event()

    def addresses(self) -> list[Address]:
        """The address, which comes before that of `otherwise`."""
        return [Address("/v1/models/{model}/predictions", self.predict, "predict", "POST")]

    def drain(self) -> None:
        """Let uploads end with the lines that are in progress."""
        self._stopping.set()

    async def predict(self, request: Request, caller: str) -> Response:
        """`POST /v1/models/{model}/predictions` with lines of JSON."""
        if media_type(request) != NDJSON:
            return await self._otherwise(request, caller)
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise Problem("unsupported-media-type", "send the body without Content-Encoding", close=True)
        settings = self._settings
        model = served_model(self._catalog, request.path_params["model"])
        if self._stopping.is_set() or self._stream.problem:
            raise busy("not-ready", f"{self._stream.problem or 'the gateway ends'}: try again", close=True)
        upload = request.headers.get("idempotency-key")
        named = upload is not None
        upload = str(uuid4()) if upload is None else upload.strip().removeprefix('"').removesuffix('"')
        headers = dict(request.headers)

        def order(row: Raw, line: int) -> Order:
            own = headers | {"idempotency-key": f"{upload}{_LINE_ID}{line}"}
            return new_order(own, model.name, [row], many=False)._replace(named=named)

        # A header that is malformed is the problem of the upload, not of each line.
        order(Raw(b"{}"), _HIGHEST_LINE)
        seconds = preference(request.headers.get("prefer", "")).seconds
        limits = Limits.of(settings)
        plan = Plan(
            model,
            order,
            min(settings.gateway_max_deadline if seconds is None else seconds, settings.gateway_max_deadline),
            settings.gateway_upload_window,
            limits,
            settings.max_request_bytes,
        )
        with ExitStack() as held:
            held.enter_context(self._budget.hold_rows(caller, plan.window, close=True))
            held.enter_context(self._budget.hold_bytes(limits.max_bytes))
            call = call_of(request)
            call.request_id, call.shape = upload, "lines"
            response = Upload(plan, self._predictor, self._stopping, held.pop_all().close, call)
        response.headers["x-request-id"] = upload
        return response

"""One upload: reads lines, orders their predictions, and writes the outcomes in the order of the lines.

Nothing is collected: no more is read than may be in progress at a time, and what is in progress ends once the client
has taken its outcome. So a client has to read while it sends.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from producers.gateway import answers
from producers.gateway.bodies import Limits, decode, require_objects
from producers.gateway.bulk.lines import Line, Lines
from producers.gateway.calls import Call
from producers.gateway.catalog import ServedModel
from producers.gateway.orders import Order, require_small
from producers.gateway.predictor import Predictor, location
from producers.gateway.problems import Problem

logger = logging.getLogger(__name__)

NDJSON = "application/x-ndjson"
_RETRY_SECONDS = 0.5
_POLL_SECONDS = 0.1
# They pass: the line is ordered again, with the same id, until its time is over.
_PASSING = ("stream-unavailable", "not-ready")
_encode = msgspec.json.Encoder().encode


class Plan(NamedTuple):
    """What holds for each line of an upload.

    `order` makes the order of a row and the number of its line. A line waits `seconds` for its prediction. At most
    `window` lines of `limits.max_bytes` together are in progress. The client may take `limits.seconds` for its next
    piece, and to take what is written.
    """

    model: ServedModel
    order: Callable[[Raw, int], Order]
    seconds: float
    window: int
    limits: Limits
    max_row_bytes: int


class _Stalled(Exception):
    """The client does not read."""


class Upload(Response):
    """The response to an upload, written while the body is read.

    Args:
        plan: of the lines.
        predictor: orders predictions.
        stopping: set once the gateway ends: no further line is read.
        release: called at the end.
        call: counts the lines.
    """

    media_type = NDJSON

    def __init__(
        self, plan: Plan, predictor: Predictor, stopping: asyncio.Event, release: Callable[[], None], call: Call
    ) -> None:
        super().__init__(headers={"x-accel-buffering": "no"})
        # As long as what comes.
        del self.headers["content-length"]
        self._plan = plan
        self._predictor = predictor
        self._stopping = stopping
        self._release = release
        self._call = call
        self._tasks: asyncio.Queue[tuple[asyncio.Task[dict[str, Any]], int] | None] = asyncio.Queue()
        self._lines = self._bytes = 0
        self._freed = asyncio.Event()
        self._end: dict[str, Any] = {"lines": 0, "predicted": 0, "running": 0, "failed": 0}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve until the last outcome is written, or the client is gone: then its lines still have their outcomes."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(receive, group))
                group.create_task(self._write(send))
        except* (ClientDisconnect, _Stalled):
            # Without an end of the response, the server closes the connection.
            logger.debug("an upload was cut off")
        finally:
            self._release()

    # The body

    async def _read(self, receive: Receive, group: asyncio.TaskGroup) -> None:
        lines = Lines(self._plan.max_row_bytes)
        try:
            more = True
            while more:
                piece = await self._receive(receive)
                for line in lines.feed(piece.get("body", b"")):
                    await self._begin(line, group)
                more = piece.get("more_body", False)
            for line in lines.end():
                await self._begin(line, group)
        except Problem as problem:
            self._end["problem"] = problem.document()
        self._tasks.put_nowait(None)

    async def _receive(self, receive: Receive) -> Message:
        """The next piece of the body.

        Raises:
            Problem: it does not come in time, or the gateway ends.
            ClientDisconnect: the client is gone.
        """
        seconds = self._plan.limits.seconds
        receiving, stopping = asyncio.ensure_future(receive()), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((receiving, stopping), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                piece = receiving.result()
                if piece["type"] == "http.disconnect":
                    raise ClientDisconnect
                return piece
            if stopping.done():
                raise self._ending()
            message = f"nothing came for {seconds:g} s: send the lines after these again"
            raise Problem("body-timeout", message)
        finally:
            receiving.cancel()
            stopping.cancel()

    def _ending(self) -> Problem:
        return Problem("not-ready", "the gateway ends: send the lines after these again, to another one")

    async def _begin(self, line: Line, group: asyncio.TaskGroup) -> None:
        """Order the prediction of a line, once there is room for it.

        Raises:
            Problem: the gateway ends.
        """
        size = len(line.content or b"")
        plan = self._plan
        while self._lines and (self._lines >= plan.window or self._bytes + size > plan.limits.max_bytes):
            self._freed.clear()
            await self._freed.wait()
        if self._stopping.is_set():
            raise self._ending()
        self._lines += 1
        self._call.lines += 1
        self._bytes += size
        self._tasks.put_nowait((group.create_task(self._outcome(line)), size))

    # The outcomes

    async def _write(self, send: Send) -> None:
        # Begins with the first outcome: until then, the client may wait for "100 Continue".
        start: Message | None = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        while True:
            item = await self._tasks.get()
            outcome = self._end if item is None else await item[0]
            body: Message = {"type": "http.response.body", "body": _encode(outcome) + b"\n", "more_body": bool(item)}
            try:
                async with asyncio.timeout(self._plan.limits.seconds):
                    if start is not None:
                        await send(start)
                    await send(body)
            except TimeoutError:
                raise _Stalled from None
            if item is None:
                return
            start = None
            self._count(outcome)
            self._lines -= 1
            self._bytes -= item[1]
            self._freed.set()

    def _count(self, outcome: dict[str, Any]) -> None:
        kind = "predicted" if "prediction" in outcome else "failed" if "problem" in outcome else "running"
        self._end["lines"] += 1
        self._end[kind] += 1

    async def _outcome(self, line: Line) -> dict[str, Any]:
        """What becomes of a line; a bad one fails alone."""
        try:
            return {"line": line.number} | await self._predict(line)
        except Problem as problem:
            return {"line": line.number, "problem": problem.document()}
        except Exception:
            logger.exception("a line of an upload failed", extra={"about_request": True})
            unknown = Problem("internal-error", "the service log says more; try again")
            return {"line": line.number, "problem": unknown.document()}

    async def _predict(self, line: Line) -> dict[str, Any]:
        plan, example = self._plan, self._plan.model.example
        if line.content is None:
            raise Problem("too-large", f"a line may have {plan.max_row_bytes:,} bytes")
        row = decode(line.content, Raw, plan.limits, example)
        require_objects([row], "line", example)
        order = plan.order(row, line.number)
        require_small(order, plan.max_row_bytes)
        result = await self._result(order)
        if result is None:
            return {"request_id": order.request_id, "status": "running", "location": location(order.request_id)}
        return answers.row(result, plan.model)

    async def _result(self, order: Order) -> bytes | None:
        """The result of an order, or None if it is not there in time."""
        due = time.monotonic() + self._plan.seconds
        while True:
            left = due - time.monotonic()
            try:
                return (await self._predictor.order(order, max(0.0, left)))[0]
            except Problem as problem:
                if problem.kind == "still-running":
                    # The same upload before this one has ordered it.
                    return await self._running(order.request_id, due)
                if problem.kind not in _PASSING or left <= _RETRY_SECONDS or self._stopping.is_set():
                    raise
            await asyncio.sleep(_RETRY_SECONDS)

    async def _running(self, request_id: str, due: float) -> bytes | None:
        while time.monotonic() < due and not self._stopping.is_set():
            if (result := (await self._predictor.find(request_id)).results[0]) is not None:
                return result
            await asyncio.sleep(_POLL_SECONDS)
        return None

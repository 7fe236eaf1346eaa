"""From an order to its results: publishes what is new, waits for it, and finds again what was asked before."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from machine_learning_engineering.events.fingerprint import fingerprint
from machine_learning_engineering.observability.rate_limit import RATE_LIMITED
from producers.gateway.orders import SEPARATOR, Order, row_ids, rows_of
from producers.gateway.problems import Problem, busy
from producers.gateway.recall import Entry
from producers.gateway.stream import History, HistoryUnavailable, NotAccepted, StoredPrediction, Stream

logger = logging.getLogger(__name__)

UNQUOTED = ":@=+~"
"""Characters of ids that URLs and headers take as they are, beside letters, digits and `-._`."""


class Found(NamedTuple):
    """Results by row; those of rows that still run are None. `many` tells whether the request was a batch."""

    results: list[bytes | None]
    many: bool


class Predictor:
    """Orders and looks up predictions. Belongs to the event loop.

    Args:
        stream: where requests are published.
        history: the outcomes that the stream has forgotten.
        max_rows: of a batch.
    """

    def __init__(self, stream: Stream, history: History, max_rows: int) -> None:
        self._stream = stream
        self._history = history
        self._max_rows = max_rows
        self._draining: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def drain(self) -> None:
        """End all waiting: callers get the address of their result instead."""
        if not self._draining.done():
            self._draining.set_result(None)

    async def order(self, order: Order, seconds: float) -> list[bytes | None]:
        """Return the result of each row, or None for each that is not there after so many seconds.

        Raises:
            Problem: the stream is not ready or does not accept the order, the id belongs to another body, or the same
                order is still running.
        """
        if problem := self._stream.problem:
            raise busy("not-ready", f"{problem}: try again")
        stored: dict[str, StoredPrediction] = {}
        if order.named:
            stored = await self._stored(order)
        # From here to the claims nothing is awaited: of two callers with one id, the second finds the first.
        entries = {one: entry for one in order.ids if (entry := self._stream.known(one)) is not None}
        self._require_same(order, entries, stored)
        if any(entry.is_running for entry in entries.values()):
            raise _still_running(order.request_id)
        new = [number for number, one in enumerate(order.ids) if one not in entries and one not in stored]
        published = await self._publish_and_wait(order, new, seconds) if new else {}
        results: list[bytes | None] = []
        for one in order.ids:
            entry = published.get(one) or entries.get(one)
            if entry is None:
                results.append(stored[one].result if one in stored else None)
            elif entry.fingerprint != order.fingerprint:
                # Another gateway published another body under this id at the same moment, and was first.
                raise _key_reused(order.request_id)
            else:
                results.append(await self._read(one, entry))
        return results

    async def _publish_and_wait(self, order: Order, new: Sequence[int], seconds: float) -> dict[str, Entry]:
        stream, ids = self._stream, order.ids
        futures = {ids[number]: stream.claim(ids[number], order.model, order.fingerprint) for number in new}
        accepted: set[str] = set()
        try:
            refused = await stream.publish([order.request(number) for number in new])
            accepted = {one for one, refusal in zip(futures, refused, strict=True) if refusal is None}
            if failures := [one for one in refused if one is not None]:
                raise _not_accepted(order.request_id, failures)
            if seconds > 0:
                waiting = asyncio.ensure_future(asyncio.wait(futures.values()))
                ends: set[asyncio.Future[Any]] = {waiting, self._draining}
                try:
                    await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    waiting.cancel()
            return {one: future.result() for one, future in futures.items() if future.done()}
        finally:
            for one, future in futures.items():
                stream.release(one, future, published=one in accepted)

    async def _stored(self, order: Order) -> dict[str, StoredPrediction]:
        """The outcomes that the prediction log has for a named order, as far as the stream does not know them."""
        ids = order.ids
        wanted = [one for one in ids if self._stream.known(one) is None]
        if not wanted:
            return {}
        batch = [order.request_id, f"{order.request_id}{SEPARATOR}{len(ids)}"]
        others = batch if order.many else [f"{order.request_id}{SEPARATOR}0"]
        try:
            return await self._history.find([*wanted, *others])
        except HistoryUnavailable as error:
            # The stream must not depend on it: if the id was used long ago, the index will show the conflict.
            logger.warning("ids are compared with those on the stream only: %s", error, extra=RATE_LIMITED)
            return {}

    def _require_same(self, order: Order, entries: Mapping[str, Entry], stored: Mapping[str, StoredPrediction]) -> None:
        """Check that the id, if it is known, belongs to this very order.

        Raises:
            Problem: it belongs to another body, or nobody can tell.
        """
        other = order.request_id if order.many else f"{order.request_id}{SEPARATOR}0"
        if order.named and self._stream.known(other) is not None:
            raise _key_reused(order.request_id)
        if any(entry.fingerprint != order.fingerprint for entry in entries.values()):
            raise _key_reused(order.request_id)
        rows = dict(zip(order.ids, order.rows, strict=True))
        for one, found in stored.items():
            if one not in rows:
                raise _key_reused(order.request_id)
            if found.fingerprint is None:
                message = (
                    "the Idempotency-Key was used before, and its body can't be compared because features are "
                    f"redacted: get the result at {location(order.request_id)}, or use a new key"
                )
                raise Problem("key-reused", message, request_id=order.request_id)
            if found.fingerprint != fingerprint(order.model, rows[one]):
                raise _key_reused(order.request_id)

    async def find(self, request_id: str) -> Found:
        """The results of a request or of a batch.

        Raises:
            Problem: nobody knows it, or the result is gone.
        """
        entry = self._stream.known(request_id)
        if entry is not None and not rows_of(entry.fingerprint):
            return Found([await self._read(request_id, entry)], False)
        first = self._stream.known(f"{request_id}{SEPARATOR}0")
        try:
            if first is not None:
                return Found(await self._find_rows(row_ids(request_id, rows_of(first.fingerprint) or 1)), True)
            if entry is not None:
                return Found([await self._read(request_id, entry)], False)
            ids = row_ids(request_id, self._max_rows)
            stored = await self._history.find([request_id, *ids])
        except HistoryUnavailable:
            message = "the request is not on the stream any more, and Elasticsearch does not respond: try again"
            raise busy("history-unavailable", message, seconds=5, request_id=request_id) from None
        if request_id in stored:
            return Found([stored[request_id].result], False)
        rows = [stored[one].result for one in ids if one in stored]
        if not rows:
            message = "no request with this id came through the gateway, or it is too old: check the id"
            raise Problem("unknown-prediction", message)
        return Found(list(rows), True)

    async def model_of(self, request_id: str) -> str | None:
        """The model of a request; None if nobody knows it."""
        entry = self._stream.known(request_id)
        if entry is not None:
            return entry.model
        try:
            found = (await self._history.find([request_id])).get(request_id)
        except HistoryUnavailable:
            return None
        return None if found is None else found.model

    async def _find_rows(self, ids: Sequence[str]) -> list[bytes | None]:
        entries = {one: entry for one in ids if (entry := self._stream.known(one)) is not None}
        missing = [one for one in ids if one not in entries]
        stored = await self._history.find(missing) if missing else {}
        return [
            await self._read(one, entries[one]) if one in entries else stored[one].result if one in stored else None
            for one in ids
        ]

    async def _read(self, request_id: str, entry: Entry) -> bytes | None:
        """The result of a known request; None if it runs."""
        if entry.is_running:
            return None
        try:
            found = await self._stream.read_result(entry)
        except TimeoutError:
            raise busy("stream-unavailable", "the broker does not respond: try again", request_id=request_id) from None
        if found is None:
            try:
                stored = (await self._history.find([request_id])).get(request_id)
            except HistoryUnavailable:
                stored = None
            if stored is None:
                message = "the result was deleted by retention: send the request again with a new id"
                raise Problem("result-gone", message, request_id=request_id)
            return stored.result
        return found


def location(request_id: str) -> str:
    """The path of a result."""
    return f"/v1/predictions/{quote(request_id, safe=UNQUOTED)}"


def _key_reused(request_id: str) -> Problem:
    message = "the Idempotency-Key was used for another body: use a new key for a new request"
    return Problem("key-reused", message, field="Idempotency-Key", request_id=request_id)


def _still_running(request_id: str) -> Problem:
    path = location(request_id)
    message = f"the same request is still running: get its result at {path}"
    return Problem("still-running", message, headers={"retry-after": "1", "location": path}, request_id=request_id)


def _not_accepted(request_id: str, failures: Sequence[NotAccepted]) -> Problem:
    fix = f"try again, with the header Idempotency-Key: {request_id}, so that it counts once"
    message = f"the request may not be on the stream: {failures[0]}; {fix}"
    return busy("stream-unavailable", message, request_id=request_id)

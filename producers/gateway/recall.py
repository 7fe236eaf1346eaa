"""What the gateways of a deployment know of their requests: a view of the ends of two topics. Pure, without Kafka.

Each gateway reads the topics of requests and results, and keeps here what any gateway has published: so every one
knows which requests are running, and answers for those of another one and of itself before a restart. Of several
requests with one id the first result counts, in the order of the topic, which is the same for all readers.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Literal, NamedTuple

import msgspec
from msgspec import Struct


class Position(NamedTuple):
    """Where a record of the topic of results is."""

    partition: int
    offset: int


class Seen(NamedTuple):
    """A record of a gateway's request, or of the result of one. `value` is that of a result."""

    kind: Literal["request", "result"]
    request_id: str
    model: str
    fingerprint: str
    position: Position
    value: bytes = b""


class Entry(Struct):
    """A request: its fingerprint (see `events.headers.FINGERPRINT`), and its result once there is one.

    `result` is None while the request runs, and after its bytes were dropped: then `position` is set. `claims` counts
    those who are publishing it, and `on_topic` is true once it was read back.
    """

    fingerprint: str
    model: str
    result: bytes | None = None
    position: Position | None = None
    on_topic: bool = False
    claims: int = 0

    @property
    def is_running(self) -> bool:
        """Whether there is no result yet."""
        return self.position is None


class RequestView(Struct):
    """What is decoded of a request or a result."""

    request_id: str
    model: str


decode_view = msgspec.json.Decoder(RequestView).decode


class Recall:
    """The requests of the last time, in bounded memory. Belongs to the event loop.

    Args:
        max_requests: the oldest are forgotten first, but none that somebody waits for.
        max_bytes: of results; the oldest keep their position only.
    """

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._waiting: dict[str, list[asyncio.Future[Entry]]] = {}
        self._with_result: deque[Entry] = deque()
        self._bytes = 0
        self.repeats = 0
        """Results that came after the first one of their request."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def waiting(self) -> int:
        """The number of futures that wait for a result."""
        return sum(map(len, self._waiting.values()))

    def get(self, request_id: str) -> Entry | None:
        """What is known of a request."""
        return self._entries.get(request_id)

    def claim(self, request_id: str, model: str, fingerprint: str) -> "asyncio.Future[Entry]":
        """Note a request that is about to be published; return what its result will be set to.

        The caller calls `release` in any case.
        """
        entry = self._entries.get(request_id)
        if entry is None:
            entry = self._entries[request_id] = Entry(fingerprint, model)
        entry.claims += 1
        future: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(request_id, []).append(future)
        if not entry.is_running:
            future.set_result(entry)
        self._forget_oldest()
        return future

    def release(self, request_id: str, future: "asyncio.Future[Entry]", *, published: bool) -> None:
        """Nobody waits for this any more.

        Args:
            published: False if the request is not on the topic, as far as is known: its id is free again.
        """
        waiting = self._waiting.get(request_id, [])
        if future in waiting:
            waiting.remove(future)
        if not waiting:
            self._waiting.pop(request_id, None)
        entry = self._entries.get(request_id)
        if entry is not None and entry.claims:
            entry.claims -= 1
            if not published and not entry.claims and not entry.on_topic and entry.is_running:
                del self._entries[request_id]

    def note(self, records: Iterable[Seen]) -> None:
        """Note records in the order of their topics."""
        for seen in records:
            entry = self._entries.get(seen.request_id)
            if seen.kind == "request":
                if entry is None:
                    self._entries[seen.request_id] = Entry(seen.fingerprint, seen.model, on_topic=True)
                elif not entry.on_topic:
                    # The first on the topic owns the id, whoever was about to publish it.
                    entry.fingerprint, entry.model, entry.on_topic = seen.fingerprint, seen.model, True
                continue
            if entry is None:
                entry = self._entries[seen.request_id] = Entry(seen.fingerprint, seen.model)
            if not entry.is_running:
                self.repeats += seen.position != entry.position
                continue
            # The request that was scored first, whichever was seen first.
            entry.fingerprint, entry.model = seen.fingerprint, seen.model
            entry.result, entry.position, entry.on_topic = seen.value, seen.position, True
            self._with_result.append(entry)
            self._bytes += len(seen.value)
            for future in self._waiting.get(seen.request_id, ()):
                if not future.done():
                    future.set_result(entry)
        self._forget_oldest()

    def _forget_oldest(self) -> None:
        # One that somebody waits for becomes the youngest; there are not too many of those.
        for _ in range(len(self._entries) - self._max_requests + len(self._waiting)):
            if len(self._entries) <= self._max_requests:
                break
            request_id, entry = self._entries.popitem(last=False)
            if request_id in self._waiting:
                self._entries[request_id] = entry
            else:
                self._drop_result(entry)
        results = self._with_result
        while results and (self._bytes > self._max_bytes or results[0].result is None):
            self._drop_result(results.popleft())

    def _drop_result(self, entry: Entry) -> None:
        self._bytes -= len(entry.result or b"")
        entry.result = None

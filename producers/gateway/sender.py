"""Publishes records from an event loop with kafka-python, in a thread of its own."""

import asyncio
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from producers.gateway.stream import Headers, NotAccepted
from producers.publisher import Outcome, Publisher

_IDLE_SECONDS = 0.5
_TICK_SECONDS = 0.001
_RETRY_SECONDS = 0.5


class _Send(NamedTuple):
    topic: str
    key: bytes | None
    value: bytes
    headers: Headers | None
    partition: int | None
    due: float
    future: "asyncio.Future[None]"


class Sender:
    """A thread with a `Publisher`. `send` belongs to the event loop.

    Args:
        new_publisher: connects; called in the thread with the function to call for each delivery, again after a
            failure, and until it succeeds.
        timeout: seconds after which a record that is not acknowledged is given up.
    """

    def __init__(self, new_publisher: Callable[[Callable[..., None]], Publisher], timeout: float) -> None:
        self._new_publisher = new_publisher
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Send | None] = SimpleQueue()
        self._settled: list[tuple[asyncio.Future[None], NotAccepted | None]] = []
        self._stopping = False
        self.connected = False
        self._thread = threading.Thread(target=self._run, name="inflight-gateway-sender", daemon=True)
        self._thread.start()

    async def send(
        self, topic: str, key: bytes | None, value: bytes, headers: Headers | None = None, partition: int | None = None
    ) -> None:
        """Publish a record and wait until all in-sync replicas have it.

        Raises:
            NotAccepted: they don't within the timeout, or the broker rejects it.
        """
        future: asyncio.Future[None] = self._loop.create_future()
        self._queue.put(_Send(topic, key, value, headers, partition, time.monotonic() + self._timeout, future))
        try:
            async with asyncio.timeout(self._timeout):
                await future
        except TimeoutError:
            reason = f"the broker did not acknowledge it within {self._timeout:g} s"
            raise NotAccepted(reason, indeterminate=True) from None

    def close(self, timeout: float) -> None:
        """End the thread; records in flight get a moment."""
        self._stopping = True
        self._queue.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        publisher: Publisher | None = None
        while not self._stopping:
            try:
                if publisher is None:
                    publisher = self._new_publisher(self._on_delivery)
                    self.connected = True
                self._step(publisher)
            except Exception as error:
                # No broker is reachable, or the producer is broken: what waits in the queue is given up when it is due.
                self.connected = False
                publisher = self._discard(publisher)
                self._refuse_due(error)
                self._hand_over()
                time.sleep(_RETRY_SECONDS)
        if publisher is not None:
            publisher.flush(self._timeout)
            self._hand_over()
            self._discard(publisher)

    def _step(self, publisher: Publisher) -> None:
        """Publish what waits, and settle what is acknowledged."""
        wait = _TICK_SECONDS if publisher.outstanding else _IDLE_SECONDS
        try:
            item = self._queue.get(timeout=wait)
            while True:
                # Not published for a caller who has got an error already.
                if item is not None and time.monotonic() < item.due and not item.future.done():
                    publisher.publish(
                        item.topic,
                        key=item.key,
                        value=item.value,
                        headers=item.headers,
                        partition=item.partition,
                        label=item.future,
                    )
                item = self._queue.get_nowait()
        except Empty:
            pass
        publisher.poll()
        self._hand_over()

    def _on_delivery(self, label: "asyncio.Future[None]", outcome: Outcome, error: BaseException | None) -> None:
        refused = None
        if outcome != "accepted":
            refused = NotAccepted(
                f"the broker did not accept it ({type(error).__name__})", indeterminate=outcome != "failed"
            )
        self._settled.append((label, refused))

    def _hand_over(self) -> None:
        if self._settled:
            settled, self._settled = self._settled, []
            self._loop.call_soon_threadsafe(_settle, settled)

    def _refuse_due(self, error: Exception) -> None:
        """Refuse what waits: nothing of it was sent."""
        try:
            while True:
                item = self._queue.get_nowait()
                if item is not None:
                    reason = f"the broker can't be reached ({type(error).__name__})"
                    self._settled.append((item.future, NotAccepted(reason, indeterminate=False)))
        except Empty:
            pass

    @staticmethod
    def _discard(publisher: Any) -> None:
        if publisher is not None:
            publisher.abandon()
            publisher.__exit__()


def _settle(settled: "list[tuple[asyncio.Future[None], NotAccepted | None]]") -> None:
    for future, refused in settled:
        if future.done():
            continue
        if refused is None:
            future.set_result(None)
        else:
            future.set_exception(refused)

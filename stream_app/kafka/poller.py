"""The thread that polls librdkafka all the time and buffers slices, bounded in bytes.

It has to poll all the time because librdkafka reports assignments and revocations only from within a poll, while Faust
polls only after an assignment. librdkafka itself takes out of the group who does not poll for `max.poll.interval.ms`.
"""

import contextlib
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Protocol, TypeVar

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from faust.types import TP

from machine_learning_engineering.kafka.client import Fetch
from machine_learning_engineering.observability.rate_limit import RATE_LIMITED
from stream_app.serving.batch import PartitionBatch, cut

logger = logging.getLogger(__name__)

T = TypeVar("T")

# How long a poll waits for a first record: the bound on the reaction to pause, resume, commit and stop.
POLL_SECONDS = 0.05
SLICE_BYTES = 4 * 1024 * 1024
# What is read long before it is scored leaves the processor's caches, and is walked by every garbage collection. Enough
# for a few rounds of scoring; beyond it fetching goes on in librdkafka's own queue.
READ_AHEAD_BYTES = 4 * 1024 * 1024


class Listener(Protocol):
    """What the pump tells, always from its own thread."""

    def on_records(self) -> None:
        """Slices wait in the buffer."""

    def on_assigned(self, tps: set[TP]) -> None:
        """Partitions were assigned: the whole assignment, since rebalancing is eager."""

    def on_revoked(self, tps: set[TP]) -> dict[TP, int]:
        """Give partitions back: the broker waits for as long as this call lasts. Returns the offsets to commit."""

    def on_lost(self, tps: set[TP]) -> None:
        """Partitions are already someone else's: nothing may be committed any more."""

    def on_failed(self, error: BaseException) -> None:
        """The pump ended on an error."""


class KafkaPoller(threading.Thread):
    """Fetches records of a consumer group in the background; `take` hands them out."""

    def __init__(
        self,
        options: dict[str, Any],
        listener: Listener,
        *,
        max_records: int,
        max_bytes: int,
        idle_pause: float = 0.0,
        on_statistics: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        super().__init__(name="inflight-pump", daemon=True)
        self._listener = listener
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._on_statistics = on_statistics
        if on_statistics is not None:
            options = {**options, "statistics.interval.ms": 5_000, "stats_cb": self._statistics}
        self.consumer = Consumer({**options, "error_cb": self._error})
        self._fetch = Fetch(self.consumer, idle_pause)
        self._topics: list[str] = []
        self._subscription_changed = threading.Event()
        self._stopping = threading.Event()
        self._ended = False
        self._paused = False
        self._given_back = False
        self._buffer: deque[PartitionBatch] = deque()
        # Each counter has one writer, so the difference needs no lock.
        self._bytes_in = 0
        self._bytes_out = 0
        self._awake = threading.Event()
        self._calls: SimpleQueue[tuple[Callable[[Consumer], Any], Future[Any]]] = SimpleQueue()
        self.last_poll = monotonic()

    @property
    def buffered_bytes(self) -> int:
        """Memory of the slices that were fetched and not released."""
        return self._bytes_in - self._bytes_out

    def subscribe(self, topics: Iterable[str]) -> None:
        """Subscribe to topics from the next poll on."""
        self._topics = list(topics)
        self._subscription_changed.set()

    def take(self, active: set[TP], slices: int = sys.maxsize, records: int = sys.maxsize) -> list[PartitionBatch]:
        """Buffered slices of the `active` partitions, in order; the others stay. For one thread, the event loop.

        At most so many `slices`, each of at most so many `records`: a larger one is split.
        """
        taken: list[PartitionBatch] = []
        kept: list[PartitionBatch] = []
        while self._buffer and len(taken) < slices:
            slice_ = self._buffer.popleft()
            if slice_.tp not in active:
                kept.append(slice_)
                continue
            if len(slice_.records) > records:
                slice_, rest = slice_.split(records)
                self._buffer.appendleft(rest)
            taken.append(slice_)
        self._buffer.extendleft(reversed(kept))
        return taken

    def discard(self, tps: set[TP]) -> None:
        """Drop the buffered slices of partitions that are being given back."""
        self.release(sum(slice_.size for slice_ in self.take(tps)))

    def release(self, size: int) -> None:
        """A taken slice of `size` bytes is done with."""
        self._bytes_out += size
        if self.buffered_bytes <= READ_AHEAD_BYTES:
            self._awake.set()

    def call(self, function: Callable[[Consumer], T]) -> Future[T]:
        """Run a function on the consumer, between two polls.

        Another thread may not call the consumer itself: confluent-kafka 2.16 makes it wait for the poll under way, and
        for the next one, without end. Once the thread has ended, the answer is a KafkaException.
        """
        answer: Future[T] = Future()
        self._calls.put((function, answer))
        # Looked at after the call is in the queue: so either this thread refuses it, or the one that ends.
        if self._ended:
            self._refuse_calls()
        self._awake.set()
        return answer

    def stop(self) -> None:
        """Leave the group and end; returns when the thread has ended. No commit happens here."""
        self._stopping.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        """Poll until stopped. (Called by the thread.)"""
        try:
            while not self._stopping.is_set():
                if self._subscription_changed.is_set():
                    self._subscription_changed.clear()
                    self.consumer.subscribe(
                        self._topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
                    )
                self._poll()
        except BaseException as error:
            logger.exception("the consumer thread failed")
            self._listener.on_failed(error)
        finally:
            self._ended = True
            self._refuse_calls()
            # Also leaves the group, so that others take over at once and not after the session time-out.
            self.consumer.close()

    def _poll(self) -> None:
        crowded = self._is_crowded()
        self._answer_call()
        self._bound_memory()
        # consume(n, t) waits for all n records or t: so wait for one, then take what else is there.
        self._given_back = False
        messages = self._fetch.consume(1, POLL_SECONDS, may_rest=not self._paused)
        self.last_poll = monotonic()
        if messages and self._max_records > 1 and not crowded:
            messages += self._fetch.consume(self._max_records - 1, 0)
        if self._given_back:
            # A revocation in the middle: whoever gets the partitions next reads again what was collected until then.
            messages = []
        records = [message for message in messages if message.error() is None]
        if len(records) < len(messages):
            self._check([message.error() for message in messages if message.error() is not None])
        if records:
            for slice_ in cut(records, SLICE_BYTES):
                self._bytes_in += slice_.size
                self._buffer.append(slice_)
            self._listener.on_records()

    def _is_crowded(self) -> bool:
        """Whether enough waits to be scored, even after a moment. A poll takes one record then."""
        self._awake.clear()
        if self.buffered_bytes > READ_AHEAD_BYTES and self._calls.empty():
            self._awake.wait(POLL_SECONDS)
        return self.buffered_bytes > READ_AHEAD_BYTES

    def _answer_call(self) -> None:
        # One between two polls: while the broker is away each takes half a minute, and others come in the meantime.
        if self._calls.empty():
            return
        function, answer = self._calls.get()
        if answer.set_running_or_notify_cancel():
            try:
                answer.set_result(function(self.consumer))
            except Exception as error:
                answer.set_exception(error)

    def _refuse_calls(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                _, answer = self._calls.get_nowait()
                if answer.set_running_or_notify_cancel():
                    answer.set_exception(KafkaException(KafkaError(KafkaError._DESTROY, "the consumer has ended")))

    def _bound_memory(self) -> None:
        size = self.buffered_bytes
        if not self._paused and size >= self._max_bytes:
            self._paused = True
            self.consumer.pause(self.consumer.assignment())
        elif self._paused and size <= self._max_bytes // 2:
            self._paused = False
            self.consumer.resume(self.consumer.assignment())

    def _check(self, errors: list[KafkaError]) -> None:
        for error in errors:
            # librdkafka goes on by itself after all but fatal errors: a broker away, a topic not yet created.
            if error.fatal():
                raise KafkaException(error)
            logger.warning("Kafka: %s", error, extra=RATE_LIMITED)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.assign(partitions)
        # librdkafka keeps a partition paused through a revocation: assigned again, it would never be fetched.
        consumer.resume(partitions)
        self._paused = self._given_back = False
        self._listener.on_assigned(_tps(partitions))

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if not self._stopping.is_set():
            offsets = self._listener.on_revoked(_tps(partitions))
            if offsets:
                self._last_commit(consumer, offsets)
        consumer.unassign()
        self._given_back = True

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if not self._stopping.is_set():
            self._listener.on_lost(_tps(partitions))
        consumer.unassign()
        self._given_back = True

    def _last_commit(self, consumer: Consumer, offsets: dict[TP, int]) -> None:
        try:
            consumer.commit(offsets=partitions_of(offsets), asynchronous=False)
        except KafkaException as error:
            # The next owner will score again what was not committed: a repeat, not a loss.
            logger.warning("offsets were not committed before the partitions went: %s", error.args[0])

    def _error(self, error: KafkaError) -> None:
        logger.warning("Kafka: %s", error, extra=RATE_LIMITED)

    def _statistics(self, statistics: str) -> None:
        if self._on_statistics is not None:
            self._on_statistics(msgspec.json.decode(statistics))


def partitions_of(offsets: dict[TP, int]) -> list[TopicPartition]:
    """Offsets as the client takes them."""
    return [TopicPartition(tp.topic, tp.partition, offset) for tp, offset in offsets.items()]


def _tps(partitions: list[TopicPartition]) -> set[TP]:
    return {TP(partition.topic, partition.partition) for partition in partitions}

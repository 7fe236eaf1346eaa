"""A thread that polls librdkafka continuously and buffers partition batches, bounded in bytes.

It polls continuously because librdkafka reports assignments and revocations only from within a poll, and removes a
consumer from the group that does not poll for `max.poll.interval.ms`.
"""

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, NamedTuple, Protocol, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from machine_learning_engineering.events.unreadable import UnreadableRecord
from machine_learning_engineering.kafka.broker_check import STATISTICS_SECONDS, broker_check_options
from machine_learning_engineering.kafka.connection import error_logger
from machine_learning_engineering.kafka.idle import IdlePausingConsumer
from machine_learning_engineering.kafka.positions import OffsetReset
from stream_app.kafka.buffer import MAX_BATCH_BYTES, BatchBuffer
from stream_app.kafka.commits import commit
from stream_app.kafka.positions import Positions
from stream_app.kafka.starts import GroupStarts
from stream_app.serving.batch import TP, PartitionBatch, extend_batches, split_into_batches

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A poll waits this long for the first record: the bound on the reaction to pause, resume, commit and stop.
POLL_SECONDS = 0.05
# Records read long before they are scored leave the processor's caches, and every garbage collection walks them. This
# is enough for a few scoring batches; beyond it librdkafka's own queue holds what it fetches.
READ_AHEAD_BYTES = 4 * 1024 * 1024
# The client makes the key, value and headers of all records of a call at once: a few heavy ones at a time.
MAX_CALL_RECORDS = 128


class Listener(Protocol):
    """Callbacks of the poller, which calls them from its own thread."""

    def on_records(self) -> None:
        """Batches wait in the buffer."""

    def on_assigned(self, tps: set[TP]) -> None:
        """Partitions were assigned: the whole assignment, since rebalancing is eager."""

    def on_revoked(self, tps: set[TP]) -> dict[TP, int]:
        """Release partitions and return the offsets to commit. The rebalance waits for this call."""

    def on_lost(self, tps: set[TP]) -> None:
        """Partitions already have another owner: no offset of theirs may be committed."""

    def on_reset(self, reset: OffsetReset) -> None:
        """A partition is read from another offset; nothing is read until this returns."""

    def on_unreadable(self, record: UnreadableRecord) -> None:
        """A batch was skipped because the client can't unpack it."""

    def on_failed(self, error: BaseException) -> None:
        """The poller's thread ended with an error."""


class KafkaPoller(threading.Thread):
    """Fetches records of a consumer group in a thread of its own; `take` hands them out.

    `take`, `discard` and `release` belong to one other thread, the event loop; `call` may be called by any.

    Args:
        options: librdkafka's.
        listener: told of records, rebalances and failure.
        max_records: the most records that one poll fetches.
        max_bytes: memory of buffered and unreleased batches above which fetching pauses.
        idle_pause: seconds; see `machine_learning_engineering.kafka.idle.IdlePausingConsumer`.
        on_statistics: called with librdkafka's statistics.
        statistics_interval: seconds between two of them. The thread fails when they show that no broker is left.
        sources: see `GroupStarts`.
    """

    def __init__(
        self,
        options: dict[str, Any],
        listener: Listener,
        *,
        max_records: int,
        max_bytes: int,
        idle_pause: float = 0.0,
        on_statistics: Callable[[dict[str, Any]], None] | None = None,
        statistics_interval: float = STATISTICS_SECONDS,
        sources: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name="inflight-poller", daemon=True)
        self._listener = listener
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._enough = min(READ_AHEAD_BYTES, max_bytes)
        options = {**options, "auto.offset.reset": "error", "error_cb": error_logger(options)}
        self.consumer = Consumer({**options, **broker_check_options(on_statistics, statistics_interval)})
        self.starts = GroupStarts(self.consumer, options, sources or {})
        self._positions = Positions(self.consumer, options, self.starts)
        self._fetch = IdlePausingConsumer(self.consumer, idle_pause)
        self.topics: list[str] = []
        self._subscription_changed = threading.Event()
        self._stopping = threading.Event()
        self._ended = False
        self._paused = False
        self._revocations = 0
        self._is_assigned = True
        self._buffer = BatchBuffer()
        self._awake = threading.Event()
        self._calls: SimpleQueue[tuple[Callable[[Consumer], Any], Future[Any]]] = SimpleQueue()
        self.last_poll = monotonic()
        self.is_in_call = False

    @property
    def buffered_bytes(self) -> int:
        """Memory of the batches that were fetched and not released, in bytes."""
        return self._buffer.size

    def ends(self) -> dict[TP, tuple[int | None, int]]:
        """The partitions that were read to their ends; see `OffsetTracker.reach_end`."""
        return self._positions.ends()

    def subscribe(self, topics: Iterable[str]) -> None:
        """Subscribe to topics at the next poll."""
        self.topics = list(topics)
        self._subscription_changed.set()

    def take(self, active: set[TP], batches: int = sys.maxsize, records: int = sys.maxsize) -> list[PartitionBatch]:
        """Remove buffered batches of the `active` partitions, in order; see `BatchBuffer.take`."""
        return self._buffer.take(active, batches, records)

    def discard(self, tps: set[TP]) -> None:
        """Drop the buffered batches of revoked partitions."""
        self.release(sum(batch.size for batch in self.take(tps)))

    def release(self, size: int) -> None:
        """Free the `size` bytes of a batch that was taken and is finished."""
        self._buffer.release(size)
        if self.buffered_bytes < self._enough:
            self._awake.set()

    def call(self, function: Callable[[Consumer], T]) -> Future[T]:
        """Run a function on the consumer, between two polls.

        Another thread must not call the consumer itself: confluent-kafka 2.16 makes it wait for the current poll, then
        for the next one, indefinitely. After the poller has ended, the future raises KafkaException.
        """
        result: Future[T] = Future()
        self._calls.put((function, result))
        # Checked afterwards: so either this thread rejects it, or the poller does as it ends.
        if self._ended:
            self._reject_pending_calls()
        self._awake.set()
        return result

    def stop(self) -> None:
        """Leave the group and end the thread; returns when it has ended. Nothing is committed."""
        self._stopping.set()
        if self.is_alive():
            self.join()

    def run(self) -> None:
        """Poll until stopped. `start` has the thread call this."""
        try:
            while not self._stopping.is_set():
                if self._subscription_changed.is_set():
                    self._subscription_changed.clear()
                    self.consumer.subscribe(
                        self.topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost
                    )
                self._poll()
        except BaseException as error:
            logger.exception("the consumer thread failed")
            self._listener.on_failed(error)
        finally:
            self._ended = True
            self._reject_pending_calls()
            try:  # Leaves the group as well, so that others take over at once.
                self.consumer.close()
            except Exception:
                # The callback for statistics runs here, too, and raises again what ended this thread.
                logger.warning("the consumer was not closed", exc_info=True)

    def _poll(self) -> None:
        room = 1 if self._is_backpressured() else self._max_records
        self._run_pending_call()
        self._bound_memory()
        # consume(n, t) waits for all n records or t: so wait for one, then take what else is there.
        fetched = _Fetched([], [])
        count = self._consume(fetched, 1, POLL_SECONDS)
        self.last_poll = monotonic()
        # librdkafka fetches more meanwhile: without a bound in bytes, a poll could take as much as the broker sends.
        while count and (room := room - count) > 0 and self._buffer.size_with(fetched.batches) < self._enough:
            count = self._consume(fetched, min(room, MAX_CALL_RECORDS), 0)
        self._hand_over(fetched.batches)
        if fetched.events or self._positions.is_resetting:
            self._follow(fetched.events)

    def _consume(self, fetched: "_Fetched", count: int, timeout: float) -> int:
        """Add what is there to `fetched`; returns the number of messages."""
        revocations = self._revocations
        messages = self._fetch.consume(count, timeout, may_pause=not self._paused)
        if self._revocations != revocations:
            # The next owner of the partitions reads again what was collected before the revocation.
            fetched.batches.clear()
            fetched.events.clear()
            if not self._is_assigned:
                return 0
        records = [message for message in messages if message.error() is None]
        if len(records) < len(messages):
            fetched.events.extend(message for message in messages if message.error() is not None)
        extend_batches(fetched.batches, records, MAX_BATCH_BYTES)
        return len(messages)

    def _hand_over(self, batches: list[PartitionBatch]) -> None:
        for batch in batches:
            self._positions.advance(batch)
            self._buffer.append(batch)
        if batches:
            self._listener.on_records()

    def _follow(self, events: list[Message]) -> None:
        # This asks the broker, and the listener waits for batches in flight: both may take half a minute.
        self.is_in_call = True
        try:
            for record in self._positions.follow(events):
                self._listener.on_unreadable(record)
                self._hand_over(split_into_batches([record], MAX_BATCH_BYTES))
            for reset in self._positions.reset():
                self._listener.on_reset(reset)
        finally:
            self.is_in_call = False

    def _is_backpressured(self) -> bool:
        """Whether enough records wait for scoring, even after a moment. A poll takes one record then."""
        self._awake.clear()
        if self.buffered_bytes >= self._enough and self._calls.empty():
            self._awake.wait(POLL_SECONDS)
        return self.buffered_bytes >= self._enough

    def _run_pending_call(self) -> None:
        # One between two polls: while the broker is unreachable each takes half a minute, and polling must continue.
        if self._calls.empty():
            return
        function, result = self._calls.get()
        if result.set_running_or_notify_cancel():
            self.is_in_call = True
            try:
                result.set_result(function(self.consumer))
            except Exception as error:
                result.set_exception(error)
            finally:
                self.is_in_call = False

    def _reject_pending_calls(self) -> None:
        with contextlib.suppress(Empty):
            while True:
                _, result = self._calls.get_nowait()
                if result.set_running_or_notify_cancel():
                    result.set_exception(KafkaException(KafkaError(KafkaError._DESTROY, "the consumer has ended")))

    def _bound_memory(self) -> None:
        size = self.buffered_bytes
        if not self._paused and size >= self._max_bytes:
            self._paused = True
            self.consumer.pause(self.consumer.assignment())
        elif self._paused and size <= self._max_bytes // 2:
            self._paused = False
            self.consumer.resume(self.consumer.assignment())

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.assign(partitions)
        # librdkafka keeps a partition paused through a revocation: reassigned, it would never be fetched.
        consumer.resume(partitions)
        self._positions.forget()
        self._paused = False
        self._is_assigned = True
        self.starts.prepare(_tps(partitions))
        self._listener.on_assigned(_tps(partitions))

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if not self._stopping.is_set():
            offsets = self._listener.on_revoked(_tps(partitions))
            if offsets:
                self._commit_revoked(consumer, offsets)
        self._unassign(consumer)

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if not self._stopping.is_set():
            self._listener.on_lost(_tps(partitions))
        self._unassign(consumer)

    def _unassign(self, consumer: Consumer) -> None:
        self._positions.forget()
        consumer.unassign()
        self._revocations += 1
        self._is_assigned = False

    def _commit_revoked(self, consumer: Consumer, offsets: dict[TP, int]) -> None:
        try:
            commit(consumer, offsets, self.starts)
        except KafkaException as error:
            # The next owner scores the uncommitted records again: repeated, not lost.
            logger.warning("offsets were not committed before the partitions were revoked: %s", error.args[0])


class _Fetched(NamedTuple):
    """What one poll has collected."""

    batches: list[PartitionBatch]
    events: list[Message]


def _tps(partitions: list[TopicPartition]) -> set[TP]:
    return {TP(partition.topic, partition.partition) for partition in partitions}

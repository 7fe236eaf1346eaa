"""Faust's consumer interface over the poller: batches as messages, commits up to the lowest unfinished batch."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import Future
from time import monotonic
from typing import Any, NoReturn

from confluent_kafka import KafkaException, TopicPartition
from faust import types
from faust.transport import base
from faust.types import ConsumerMessage, Message

from machine_learning_engineering.events.unreadable import UnreadableRecord
from machine_learning_engineering.kafka.positions import OffsetReset
from stream_app.kafka.commits import commit
from stream_app.kafka.lag import LagQuery
from stream_app.kafka.offsets import OffsetTracker
from stream_app.kafka.poller import KafkaPoller
from stream_app.serving.batch import TP, PartitionBatch

# A rebalance or a stop waits this long for in-flight batches; the next owner reads again what is unfinished then.
DRAIN_SECONDS = 25.0
CHECK_SECONDS = 0.1
BROKER_SECONDS = 30.0


class Consumer(base.Consumer):  # type: ignore[misc]
    """A Faust consumer whose messages are partition batches.

    Faust's own bookkeeping of acknowledged offsets is bypassed: `OffsetTracker` alone decides what may be committed.
    Streams have to use ``stream.noack()`` and `ack` an event when every output of its batch is acknowledged.

    The poller's thread calls the listener's methods, `on_records` to `on_failed`; all others run on the event loop.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._options = options = self.transport.options
        self.tracker: OffsetTracker[TP] = OffsetTracker()
        self.poller = KafkaPoller(
            options.consumer,
            self,
            max_records=options.max_batch_records,
            max_bytes=options.buffer_bytes,
            idle_pause=options.idle_pause,
            on_statistics=options.on_statistics,
            sources=options.sources,
        )
        self._lag = LagQuery(options.consumer)
        self._assigned: set[TP] = set()
        # Of the batches that were taken from the poller and are not finished.
        self._in_flight_bytes: dict[TP, int] = {}
        # Set where `getmany` may have something new to hand out: records came, or a batch is finished.
        self._wake_up = asyncio.Event()
        self._rebalance = asyncio.Lock()
        self._drained = asyncio.Event()
        self._committing: asyncio.Future[Any] | None = None

    # Start and stop

    async def on_start(self) -> None:
        """Start fetching in the background."""
        self.loop = asyncio.get_running_loop()
        self.poller.start()

    async def on_stop(self) -> None:
        """Wait for in-flight batches, commit, leave the group."""
        await super().on_stop()
        await asyncio.to_thread(self.poller.stop)

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group with these topics; `on_assigned` receives the assignment."""
        self.poller.subscribe(topics)

    # The poller's listener, called from its thread

    def on_records(self) -> None:
        """Wake up `getmany`: batches wait in the poller."""
        self.loop.call_soon_threadsafe(self._wake_up.set)

    def on_assigned(self, tps: set[TP]) -> None:
        """Tell Faust, without waiting for it: its tasks may call the poller, which has to keep polling."""
        self._on_loop(self._handle_assigned(tps)).add_done_callback(self._assigned_to_faust)

    def on_revoked(self, tps: set[TP]) -> dict[TP, int]:
        """Wait until Faust has released the in-flight batches; returns the offsets to commit."""
        revoked: Future[dict[TP, int]] = self._on_loop(self._handle_revoked(tps, lost=False))
        return revoked.result(DRAIN_SECONDS + BROKER_SECONDS)

    def on_lost(self, tps: set[TP]) -> None:
        """Drop in-flight batches: the partitions have another owner."""
        self._on_loop(self._handle_revoked(tps, lost=True)).result(DRAIN_SECONDS + BROKER_SECONDS)

    def on_reset(self, reset: OffsetReset) -> None:
        """Count the requests that were deleted before they were read; start afresh if the topic did."""
        tp = TP(reset.topic, reset.partition)
        if reset.missing:
            self.log.error("%s requests of %s were deleted before they were scored", reset.missing, tp)
        if reset.restarted:
            self.log.error("%s was recreated: it is read from %s on, not from %s", tp, reset.start, reset.position)
            self._on_loop(self._handle_restarted(tp)).result(DRAIN_SECONDS + BROKER_SECONDS)
        self._options.on_reset(reset)

    def on_unreadable(self, record: UnreadableRecord) -> None:
        """Count a batch that became a dead letter as a whole."""
        self._options.on_unreadable(record.partition())

    def on_failed(self, error: BaseException) -> None:
        """End the process: without its consumer thread nothing can be committed."""
        self._options.on_failed(f"the consumer thread failed: {type(error).__name__}")

    def _assigned_to_faust(self, done: Future[None]) -> None:
        # Nothing awaits it: without this, the worker would own partitions that it does not read, and log nothing.
        if not done.cancelled() and (error := done.exception()) is not None:
            self.log.error("the assignment failed", exc_info=error)
            self._options.on_failed(f"the assignment failed: {type(error).__name__}")

    async def _handle_assigned(self, tps: set[TP]) -> None:
        # Faust asserts that partitions have its own type.
        tps = {types.TP(*tp) for tp in tps}
        async with self._rebalance:
            app = self.app
            app.consumer_generation_id += 1
            if not app.rebalancing:
                app.on_rebalance_start()
            self.tracker.assign(tps)
            self._assigned = tps
            # Faust's loop may have set these after the revocation, and would drop lower offsets.
            for tp in tps:
                self._read_offset.pop(tp, None)
            await self.on_partitions_assigned(tps, app.consumer_generation_id)

    async def _handle_revoked(self, tps: set[TP], *, lost: bool) -> dict[TP, int]:
        tps = {types.TP(*tp) for tp in tps}
        async with self._rebalance:
            self.app.on_rebalance_start()
            if lost:
                self.tracker.revoke(tps)
            await self.on_partitions_revoked(tps)
            if self.app.should_stop and not lost:
                # Faust returns at once then, since its own stop waits; but what finishes later is not committed.
                await self.wait_empty()
            finished = {tp: offset for tp, offset in self.tracker.committable().items() if tp in tps}
            self.tracker.revoke(tps)
            self._assigned -= tps
            self.poller.discard(tps)
            # Faust has silently dropped these batches: nothing acknowledges them.
            self.poller.release(sum(self._in_flight_bytes.pop(tp, 0) for tp in tps))
            return finished

    async def _handle_restarted(self, tp: TP) -> None:
        """Track a partition from its new beginning, once the batches of the old log are finished."""
        deadline = monotonic() + DRAIN_SECONDS
        while self.tracker.has_unfinished(tp) and monotonic() < deadline:
            await asyncio.sleep(CHECK_SECONDS)
        if tp in self._assigned:
            self.poller.discard({tp})
            self.poller.release(self._in_flight_bytes.pop(tp, 0))
            self.tracker.assign({tp})
            # Faust drops lower offsets than the last one.
            self._read_offset.pop(types.TP(*tp), None)

    # Messages

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """Yield waiting batches of the active partitions; return after `timeout` seconds without any.

        Few at a time, and as small as the scheduler wants them now: a batch can't be split once it is handed out, and a
        rebalance or a stop waits for it or drops it.
        """
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
            return
        self._wake_up.clear()
        free = self._options.max_in_flight - self.tracker.unfinished()
        taken = self.poller.take(self._active_partitions, free, self._options.batch_limit())
        if not taken:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake_up.wait(), timeout)
            return
        # All are begun before the first is handed out: from here on, a batch that Faust loses holds back the commit.
        for batch in taken:
            self.tracker.begin(batch.tp, batch.first, batch.next_offset)
            self._in_flight_bytes[batch.tp] = self._in_flight_bytes.get(batch.tp, 0) + batch.size
        generation = self.app.consumer_generation_id
        for batch in taken:
            if self.app.consumer_generation_id != generation:
                # The partitions were revoked and reassigned while Faust took these: they will be read again.
                return
            tp = types.TP(*batch.tp)
            yield tp, self._to_message(tp, batch)

    def _to_message(self, tp: TP, record: PartitionBatch) -> ConsumerMessage:
        timestamp_type, milliseconds = record.records[-1].timestamp()
        return ConsumerMessage(
            *tp,
            offset=record.next_offset - 1,
            timestamp=milliseconds / 1000.0,
            timestamp_type=timestamp_type,
            headers=[],
            key=None,
            value=record,
            checksum=None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    def ack(self, message: Message) -> bool:
        """Finish the message's batch: every output of it is acknowledged. False if it is no longer ours."""
        batch: PartitionBatch = message.value
        message.acked = True
        self._unacked_messages.discard(message)
        if not self._unacked_messages:
            self._drained.set()
        if not self.tracker.finish(batch.tp, batch.first, batch.next_offset):
            return False
        self._in_flight_bytes[batch.tp] -= batch.size
        self.poller.release(batch.size)
        self._wake_up.set()
        return True

    # Commit

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit the committable offsets. False if there were none, they were refused, or a rebalance came first."""
        if self.app.rebalancing or self._committing is not None:
            # During a revocation the poller commits: it is in librdkafka's callback and runs no other call.
            return False
        for tp, (read, end) in self.poller.ends().items():
            self.tracker.reach_end(tp, read, end)
        offsets = self.tracker.committable()
        if not offsets:
            return False
        rebalances, starts = self.app.rebalancing_count, self.poller.starts

        def attempt(consumer: Any) -> dict[TP, int]:
            # After a rebalance began, this would overwrite the commit made with the revocation, or a new owner's.
            # Synchronous in the poller's thread: that takes a few milliseconds, twice a second.
            return commit(consumer, offsets, starts) if self.app.rebalancing_count == rebalances else {}

        self._committing = asyncio.wrap_future(self.poller.call(attempt))
        try:
            accepted = await self._committing
        except KafkaException as error:
            # Nothing is lost: the same offsets, or later ones, are committed at the next interval.
            self.log.warning("offsets were not committed: %s", error.args[0])
            return False
        finally:
            self._committing = None
        if not accepted:
            return False
        self.tracker.committed(accepted)
        self.app.monitor.on_tp_commit(accepted)
        return True

    async def wait_empty(self) -> None:
        """Wait, at most `DRAIN_SECONDS`, until the batches that agents have begun are finished; then commit."""
        deadline = monotonic() + DRAIN_SECONDS
        # Polled: the set is weak, and a batch that Faust drops leaves it without an acknowledgement.
        while self._unacked_messages and monotonic() < deadline:
            self._drained.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._drained.wait(), CHECK_SECONDS)
        if self._unacked_messages:
            count = len(self._unacked_messages)
            self.log.warning("%s batches unfinished after %s s: they will be scored again", count, DRAIN_SECONDS)
            self._unacked_messages.clear()
        if self._committing is not None and not self.app.rebalancing:
            await asyncio.wait([self._committing], timeout=BROKER_SECONDS)
        await self.commit()

    # Offsets

    async def position(self, tp: TP) -> int | None:
        """The offset after the last record read; None if there was none."""
        offset: int | None = self._read_offset[tp]
        return offset

    async def behind(self) -> int:
        """Ask the broker for the number of readable records at or above the committed offsets of the own partitions.

        Raises:
            KafkaException: the broker does not respond. It is asked even if nothing is assigned.
        """
        wanted = [TopicPartition(tp.topic, tp.partition) for tp in self._assigned]
        committed: dict[TP, int] = {}
        if wanted:
            asking = self.poller.call(lambda consumer: consumer.committed(wanted, timeout=BROKER_SECONDS))
            committed = {TP(tp.topic, tp.partition): tp.offset for tp in await asyncio.wrap_future(asking)}
        return await asyncio.to_thread(self._lag, committed, self.poller.topics, BROKER_SECONDS)

    def assignment(self) -> set[TP]:
        """The partitions that this worker owns."""
        return set(self._assigned)

    def _on_loop(self, awaitable: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(awaitable, self.loop)

    # Required by Faust's interface

    async def perform_seek(self) -> None:
        """Do nothing: an assignment starts at the committed offsets, and the poller hands out each batch once."""

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do nothing: offsets between two batches are no gap."""

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    def _unused(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse what Faust calls only for tables, or from methods that are overridden here."""
        raise NotImplementedError("this transport has no tables and seeks nowhere: see the group's committed offsets")

    _commit = _getmany = _seek = seek_wait = seek_to_committed = create_topic = _unused
    earliest_offsets = highwaters = highwater = topic_partitions = key_partition = _unused

"""Faust's consumer interface over the pump: slices as messages, commits capped at the lowest unfinished slice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from time import monotonic
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from faust.transport import base
from faust.types import TP, ConsumerMessage, Message

from stream_app.kafka.offsets import OffsetTracker
from stream_app.kafka.poller import KafkaPoller, partitions_of
from stream_app.serving.batch import PartitionBatch

# A rebalance or a stop waits so long for the slices in flight; what is unfinished then is read again by the next owner.
DRAIN_SECONDS = 25.0
LOOK_SECONDS = 0.1
BROKER_SECONDS = 30.0


class Consumer(base.Consumer):  # type: ignore[misc]
    """A Faust consumer whose messages are slices.

    Faust's own bookkeeping of acknowledged offsets is bypassed: `OffsetTracker` alone decides what may be committed.
    Streams have to use ``stream.noack()`` and `ack` an event when every output of its slice is acknowledged.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        options = self.transport.options
        self.tracker: OffsetTracker[TP] = OffsetTracker()
        self.pump = KafkaPoller(
            options.consumer,
            self,
            max_records=options.slice_records,
            max_bytes=options.buffer_bytes,
            idle_pause=options.idle_pause,
            on_statistics=options.on_statistics,
        )
        self._assigned: set[TP] = set()
        # Bytes of the slices that were taken from the pump and are not finished.
        self._taken: dict[TP, int] = {}
        self._slices_handed_out = options.slices_handed_out
        self._records_now = options.records_now
        self._on_failed = options.on_failed
        # Set where `getmany` may have something new to hand out: records came, or a slice is finished.
        self._hand_out = asyncio.Event()
        self._rebalance = asyncio.Lock()
        self._drained = asyncio.Event()
        self._committing: asyncio.Future[Any] | None = None

    # Start and stop

    async def on_start(self) -> None:
        """Start fetching in the background."""
        self._home = asyncio.get_running_loop()
        self.pump.start()

    async def on_stop(self) -> None:
        """Wait for the slices in flight, commit, leave the group."""
        await super().on_stop()
        await asyncio.to_thread(self.pump.stop)

    async def subscribe(self, topics: Iterable[str]) -> None:
        """Join the group of these topics; the assignment comes by `on_assigned`."""
        self.pump.subscribe(topics)

    # What the pump tells, from its thread

    def on_records(self) -> None:
        """Slices wait in the pump."""
        self._home.call_soon_threadsafe(self._hand_out.set)

    def on_assigned(self, tps: set[TP]) -> None:
        """Tell Faust, without waiting for it: it asks the broker for offsets, which needs this thread to poll on."""
        self._soon(self._take_over(tps))

    def on_revoked(self, tps: set[TP]) -> dict[TP, int]:
        """Wait until Faust has let go of the slices in flight; returns what is finished, to be committed."""
        finished: dict[TP, int] = self._soon(self._let_go(tps, lost=False)).result(DRAIN_SECONDS + BROKER_SECONDS)
        return finished

    def on_lost(self, tps: set[TP]) -> None:
        """Drop what is in flight: the partitions have another owner."""
        self._soon(self._let_go(tps, lost=True)).result(DRAIN_SECONDS + BROKER_SECONDS)

    def on_failed(self, error: BaseException) -> None:
        """The process can't go on without its consumer thread: nobody commits what would still be answered."""
        self._on_failed(f"the consumer thread failed: {type(error).__name__}")

    async def _take_over(self, tps: set[TP]) -> None:
        async with self._rebalance:
            app = self.app
            app.consumer_generation_id += 1
            if not app.rebalancing:
                app.on_rebalance_start()
            self.tracker.assign(tps)
            self._assigned = set(tps)
            # Faust's loop may have set these again after the revocation; it drops what lies below.
            for tp in tps:
                self._read_offset.pop(tp, None)
            await self.on_partitions_assigned(tps, app.consumer_generation_id)

    async def _let_go(self, tps: set[TP], *, lost: bool) -> dict[TP, int]:
        async with self._rebalance:
            self.app.on_rebalance_start()
            if lost:
                self.tracker.revoke(tps)
            await self.on_partitions_revoked(tps)
            if self.app.should_stop and not lost:
                # Faust returns at once then, since its stop waits by itself; but what is finished later does not count.
                await self.wait_empty()
            finished = {tp: offset for tp, offset in self.tracker.committable().items() if tp in tps}
            self.tracker.revoke(tps)
            self._assigned -= tps
            self.pump.discard(tps)
            # Faust has dropped them without a word: nobody will acknowledge them.
            self.pump.release(sum(self._taken.pop(tp, 0) for tp in tps))
            return finished

    # Messages

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:
        """Waiting slices of the active partitions; returns after `timeout` seconds without any.

        Few at a time, and cut as the scoring wants them now: what was handed out can't be cut any more, and a rebalance
        or a stop waits for it or drops it.
        """
        if not self.flow_active:
            await self.wait(self.can_resume_flow)
            return
        self._hand_out.clear()
        room = self._slices_handed_out - self.tracker.unfinished()
        taken = self.pump.take(self._active_partitions, room, self._records_now())
        if not taken:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._hand_out.wait(), timeout)
            return
        # Begun all at once: from here on a slice that Faust loses holds the commit back for ever.
        for slice_ in taken:
            self.tracker.begin(slice_.tp, slice_.first, slice_.next_offset)
            self._taken[slice_.tp] = self._taken.get(slice_.tp, 0) + slice_.size
        generation = self.app.consumer_generation_id
        for slice_ in taken:
            if self.app.consumer_generation_id != generation:
                # The partitions went and came again while Faust handed these out: they will be read again.
                return
            yield slice_.tp, self._to_message(slice_.tp, slice_)

    def _to_message(self, tp: TP, record: PartitionBatch) -> ConsumerMessage:
        last = record.records[-1]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            record.next_offset - 1,
            last.timestamp()[1] / 1000.0,
            last.timestamp()[0],
            [],
            None,
            record,
            None,
            0,
            record.size,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: that a slice's offset is far from the one before is no gap."""

    def ack(self, message: Message) -> bool:
        """Every output of the message's slice is acknowledged."""
        slice_: PartitionBatch = message.value
        message.acked = True
        self._unacked_messages.discard(message)
        if not self._unacked_messages:
            self._drained.set()
        if not self.tracker.finish(slice_.tp, slice_.first, slice_.next_offset):
            return False
        self._taken[slice_.tp] -= slice_.size
        self.pump.release(slice_.size)
        self._hand_out.set()
        return True

    # Commit

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit what is finished. False if there was nothing to commit, or the group has moved on."""
        if self.app.rebalancing or self._committing is not None:
            # While partitions are given back the pump commits: it is in librdkafka's callback and answers nobody else.
            return False
        offsets = self.tracker.committable()
        if not offsets:
            return False
        rebalances = self.app.rebalancing_count

        def commit(consumer: Any) -> bool:
            # Called after a rebalance began, it would put back what the last commit before it or a new owner wrote.
            if self.app.rebalancing_count != rebalances:
                return False
            # Synchronous in the pump's thread: an answer of the broker a few milliseconds later, twice a second.
            consumer.commit(offsets=partitions_of(offsets), asynchronous=False)
            return True

        self._committing = asyncio.wrap_future(self.pump.call(commit))
        try:
            if not await self._committing:
                return False
        except KafkaException as error:
            # Nothing is lost: the same offsets, or later ones, are committed at the next interval.
            self.log.warning("offsets were not committed: %s", error.args[0])
            return False
        finally:
            self._committing = None
        self.tracker.committed(offsets)
        self.app.monitor.on_tp_commit(offsets)
        return True

    async def wait_empty(self) -> None:
        """Wait, within a bound, until the slices that agents have begun are finished; then commit."""
        deadline = monotonic() + DRAIN_SECONDS
        # Looked at again and again: the set is a weak one, and a slice that Faust drops leaves it unacknowledged.
        while self._unacked_messages and monotonic() < deadline:
            self._drained.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._drained.wait(), LOOK_SECONDS)
        if self._unacked_messages:
            count = len(self._unacked_messages)
            self.log.warning("%s slices unfinished after %s s: they will be scored again", count, DRAIN_SECONDS)
            self._unacked_messages.clear()
        if self._committing is not None and not self.app.rebalancing:
            await asyncio.wait([self._committing], timeout=BROKER_SECONDS)
        await self.commit()

    # Offsets

    async def perform_seek(self) -> None:
        """Nothing: an assignment starts at the committed offsets, and the pump hands every slice out once."""

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Nothing was moved."""
        return {}

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        raise NotImplementedError("commit is overridden")

    async def _seek(self, partition: TP, offset: int) -> None:
        raise NotImplementedError("slices in flight can't be moved: stop the worker and reset the group's offsets")

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        """Faust seeks only for tables, which this transport does not carry."""
        raise NotImplementedError("this transport carries streams, not tables")

    async def position(self, tp: TP) -> int | None:
        """The offset after the last record read; None if none was."""
        offset: int | None = self._read_offset[tp]
        return offset

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        """First offset of each partition that the log still holds."""
        return {tp: (await self._watermarks(tp))[0] for tp in partitions}

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        """Next offset to be written of each partition."""
        return {tp: (await self._watermarks(tp))[1] for tp in partitions}

    async def _watermarks(self, tp: TP) -> tuple[int, int]:
        partition = TopicPartition(tp.topic, tp.partition)
        found: tuple[int, int] = await asyncio.wrap_future(
            self.pump.call(lambda consumer: consumer.get_watermark_offsets(partition, timeout=BROKER_SECONDS))
        )
        return found

    def highwater(self, tp: TP) -> int:
        """Not kept here: the lag is in the worker's metrics."""
        raise NotImplementedError("ask highwaters")

    async def behind(self) -> int:
        """Records of the assigned partitions at or above the committed offsets, asked of the broker."""
        wanted = [TopicPartition(tp.topic, tp.partition) for tp in self._assigned]

        def count(consumer: Any) -> int:
            records = 0
            for found in consumer.committed(wanted, timeout=BROKER_SECONDS):
                low, high = consumer.get_watermark_offsets(found, timeout=BROKER_SECONDS)
                records += max(0, high - max(low, found.offset))
            return records

        return await asyncio.wrap_future(self.pump.call(count)) if wanted else 0

    def assignment(self) -> set[TP]:
        """The partitions that this worker owns."""
        return set(self._assigned)

    def topic_partitions(self, topic: str) -> int | None:
        """Not known here; Faust asks only for tables."""
        return None

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int | None:
        """The partition that was asked for; librdkafka chooses otherwise."""
        return partition

    async def create_topic(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: topics come from `machine_learning_engineering.kafka.client.create_topics`, with settings."""

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Mapping[TP, list[Any]]:
        raise NotImplementedError("getmany is overridden")

    def _soon(self, awaitable: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(awaitable, self._home)

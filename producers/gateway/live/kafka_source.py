"""The source of live streams on Kafka: a consumer without a group that follows the topics, and others for the past."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from machine_learning_engineering.kafka.client import METADATA_REFRESH_SECONDS, consumer_options, topic_name
from machine_learning_engineering.kafka.idle import IdlePausingConsumer
from machine_learning_engineering.kafka.positions import is_end, is_out_of_range, is_unreadable, skip_unreadable
from machine_learning_engineering.observability.rate_limit import RATE_LIMITED
from producers.gateway.live.positions import TOPICS, Place, Positions
from producers.gateway.live.records import Gap, Record, record
from producers.gateway.live.source import Delivery, Opened, PastUnavailable
from producers.gateway.settings import GatewaySettings

logger = logging.getLogger(__name__)

# A consumer needs a group that it never joins.
READER = "inflight-reader"
_BROKER_SECONDS = 5.0
_AT_A_TIME = 500
_READ_SECONDS = 0.5
# Subscribers that read the past take turns.
_THREADS = 4


class KafkaSource:
    """See `Source`. Made in a running event loop; `close` ends its threads."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(_THREADS, "inflight-gateway-past")
        self._follower: _Follower | None = None

    def follow(self, deliver: Callable[[Delivery], None]) -> None:
        """See `Source.follow`."""

        def hand_over(found: Delivery) -> None:
            if follower is self._follower:
                deliver(found)

        def from_thread(found: Delivery) -> None:
            self._loop.call_soon_threadsafe(hand_over, found)

        follower = _Follower(self._settings, from_thread)
        self._follower = follower
        follower.start()

    def stop(self) -> None:
        """See `Source.stop`."""
        if self._follower is not None:
            self._follower.stopping.set()
            self._follower = None

    async def open(self, positions: Positions) -> Opened:
        """See `Source.open`."""
        reader = _Reader(self._settings)
        try:
            begin, gaps = await self._run(reader.begin, positions)
        except KafkaException as error:
            await self._run(reader.close)
            raise PastUnavailable(error.args[0].str()) from None
        return Opened(KafkaPast(reader, self._run), begin, gaps)

    def close(self, timeout: float) -> None:
        """End the threads. Blocks."""
        follower = self._follower
        self.stop()
        if follower is not None:
            follower.join(timeout)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await self._loop.run_in_executor(self._threads, function, *arguments)


class KafkaPast:
    """See `Past`."""

    def __init__(self, reader: "_Reader", run: Callable[..., Any]) -> None:
        self._reader = reader
        self._run = run

    async def read(self) -> tuple[list[Record], Positions]:
        """See `Past.read`."""
        found: tuple[list[Record], Positions] = await self._run(self._reader.read)
        return found

    async def close(self) -> None:
        """See `Past.close`."""
        # A read that was given up may still run: the consumer is closed behind it, in its thread.
        await asyncio.shield(self._run(self._reader.close))


class _Client:
    """A consumer of partitions that it is told."""

    def __init__(self, settings: GatewaySettings, *, log: bool) -> None:
        self.options = {
            **consumer_options(settings, READER),
            "group.id": READER,
            # Whoever reads has to know that records are missing.
            "auto.offset.reset": "error",
            "queued.max.messages.kbytes": 16 * 1024,
            "reconnect.backoff.max.ms": 1_000,
        }
        if not log:
            del self.options["error_cb"]
        self.consumer = Consumer(self.options)
        self.topics = {name: topic_name(settings, topic) for name, topic in TOPICS.items()}
        self._names = {topic: name for name, topic in self.topics.items()}

    def partition(self, place: Place, offset: int = 0) -> TopicPartition:
        return TopicPartition(self.topics[place.stream], place.partition, offset)

    def ends(self, place: Place) -> tuple[int, int]:
        low, high = self.consumer.get_watermark_offsets(self.partition(place), timeout=_BROKER_SECONDS)
        return low, high

    def place(self, message: Message) -> Place:
        return Place(self._names[message.topic()], message.partition())

    def read(self, message: Message) -> Record | None:
        """A message as a record; of an error, None."""
        error = message.error()
        if error is None:
            return record(self.place(message), message.offset(), message.value())
        if is_unreadable(message):
            skip_unreadable(self.consumer, self.options, message)
        elif not is_end(message) and not is_out_of_range(message):
            logger.warning("Kafka: %s", error.str(), extra=RATE_LIMITED)
        return None


class _Follower(threading.Thread):
    """Delivers what is new, until it is stopped. Partitions that are added later are read from their start."""

    def __init__(self, settings: GatewaySettings, deliver: Callable[[Delivery], None]) -> None:
        super().__init__(name="inflight-gateway-live", daemon=True)
        self._settings = settings
        self._deliver = deliver
        self._assigned: set[Place] = set()
        self._lost: set[Place] = set()
        self.stopping = threading.Event()

    def run(self) -> None:
        client = _Client(self._settings, log=True)
        reading = IdlePausingConsumer(client.consumer, self._settings.kafka_idle_pause)
        due = 0.0
        try:
            while not self.stopping.is_set():
                if time.monotonic() >= due or self._lost:
                    self._refresh(client)
                    due = time.monotonic() + (METADATA_REFRESH_SECONDS if self._assigned else 0.5)
                if not self._assigned:
                    self.stopping.wait(0.2)
                    continue
                messages = reading.consume(1, 0.2)
                if messages:
                    messages += reading.consume(_AT_A_TIME, 0)
                self._lost |= {client.place(one) for one in messages if is_out_of_range(one)}
                records = [found for one in messages if (found := client.read(one)) is not None]
                if records:
                    self._deliver(Delivery({}, records))
        except Exception:
            if not self.stopping.is_set():
                logger.exception("the live streams can't be read any more: restart the gateway")
        finally:
            client.consumer.close()

    def _refresh(self, client: _Client) -> None:
        """Assign partitions that are not yet, and again those whose records were deleted."""
        try:
            found = set()
            for stream, topic in client.topics.items():
                metadata = client.consumer.list_topics(topic, _BROKER_SECONDS).topics[topic]
                found |= {Place(stream, number) for number in metadata.partitions}
            new = {place: client.ends(place) for place in sorted(found - self._assigned | self._lost & found)}
        except KafkaException as error:
            logger.warning("the live streams wait: %s", error.args[0].str(), extra=RATE_LIMITED)
            return
        if not new:
            return
        at_first = not self._assigned
        starts = {place: high if at_first else low for place, (low, high) in new.items()}
        again = [client.partition(place) for place in new if place in self._lost]
        if again:
            client.consumer.incremental_unassign(again)
        client.consumer.incremental_assign([client.partition(place, offset) for place, offset in starts.items()])
        self._deliver(Delivery(starts, [], lost=bool(self._lost)))
        self._assigned.update(new)
        self._lost.clear()


class _Reader:
    """Reads the past in whatever thread calls it, one at a time."""

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._client: _Client | None = None
        self._lock = threading.Lock()

    def begin(self, positions: Positions) -> tuple[Positions, list[Gap]]:
        """Begin at these positions, or where the partitions do; see `Opened`."""
        with self._lock:
            client = self._client = _Client(self._settings, log=False)
            begin: Positions = {}
            gaps: list[Gap] = []
            for place, offset in positions.items():
                low, high = client.ends(place)
                begin[place] = low if offset > high else max(low, offset)
                if offset > high:
                    gaps.append(Gap("reset", 0))
                elif offset < low:
                    gaps.append(Gap("retention", low - offset))
            client.consumer.assign([client.partition(place, offset) for place, offset in begin.items()])
            return begin, gaps

    def read(self) -> tuple[list[Record], Positions]:
        """See `Past.read`."""
        with self._lock:
            client = self._client
            if client is None:
                raise PastUnavailable("closed")
            records, positions = [], {}
            messages = client.consumer.consume(1, _READ_SECONDS)
            if messages:
                messages += client.consumer.consume(_AT_A_TIME, 0)
            for message in messages:
                if is_out_of_range(message):
                    raise PastUnavailable("records were deleted before they were read")
                if is_end(message):
                    positions[client.place(message)] = message.offset()
                elif (found := client.read(message)) is not None:
                    records.append(found)
                    positions[found.place] = found.offset + 1
            return records, positions

    def close(self) -> None:
        """End the consumer."""
        with self._lock:
            if self._client is not None:
                self._client.consumer.close()
                self._client = None

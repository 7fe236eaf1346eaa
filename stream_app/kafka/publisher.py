"""Publishing what slices caused: all outputs of a slice are acknowledged, or the slice is not."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import Producer as KafkaProducer

from machine_learning_engineering.observability.rate_limit import RATE_LIMITED

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 25.0
LOOK_SECONDS = 0.1
METADATA_SECONDS = 10.0
# librdkafka's own choice of the partition, by the key.
ANY_PARTITION = -1

Record = dict[str, Any]
"""`key`, `value` and perhaps `headers` of a record to be published, as `confluent_kafka.Producer` names them."""

Done = Callable[[KafkaError | None], None]


class _Unit(NamedTuple):
    """The outputs of one slice, by topic."""

    outputs: Mapping[str, list[Record]]
    partition: int
    done: Done


class Publisher:
    """An idempotent producer with a thread of its own. `publish` may be called from any one thread.

    One batch is under way at a time, and whatever is published meanwhile is the next batch. So a batch is acknowledged
    when the producer has nothing left, and only failures have to be reported record by record. Nothing is lost by
    waiting: librdkafka's idempotent producer sends no more for a partition while five *records* of it are
    unacknowledged; and if records wait in its own queue longer than `linger.ms`, it spins at the full cost of a core.

    Options are librdkafka's; see `machine_learning_engineering.kafka.client.producer_options`.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        own = {"delivery.report.only.error": True, "on_delivery": self._not_delivered, "error_cb": self._warn}
        self._producer = KafkaProducer({**options, **own})
        self._partitions: dict[str, int] = {}
        # Guards the two below.
        self._lock = threading.Lock()
        self._waiting: deque[_Unit] = deque()
        self._under_way: list[_Unit] = []
        # Whether all of the batch under way was handed to librdkafka, and what went wrong with it.
        self._handed_over = False
        self._error: KafkaError | None = None
        self._room = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="inflight-publisher", daemon=True)
        self._thread.start()

    def learn(self, topics: Iterable[str]) -> None:
        """Ask the broker for the number of partitions of `topics`; of others, records go wherever their key belongs.

        Raises:
            KafkaException: the broker can't be reached.
        """
        for topic in topics:
            found = self._producer.list_topics(topic, METADATA_SECONDS).topics[topic].partitions
            if found:
                self._partitions[topic] = len(found)

    def publish(self, outputs: Mapping[str, list[Record]], partition: int, done: Done) -> None:
        """Publish records by topic, into the partition of this number, in order. The lists are emptied.

        `done` is called once, when each record is acknowledged or one of the batch has failed; as a rule in the
        publisher's thread. Blocks while librdkafka's own queue is full, so that memory stays bounded.
        """
        if not any(outputs.values()):
            done(None)
            return
        unit = _Unit(outputs, partition, done)
        with self._lock:
            self._waiting.append(unit)
            if self._under_way:
                return
            self._take()
        self._hand_over()
        self._settle()

    def unacknowledged(self) -> int:
        """Records that wait for the broker's acknowledgement."""
        with self._lock:
            waiting = sum(len(records) for unit in self._waiting for records in unit.outputs.values())
        return waiting + len(self._producer)

    def stop(self) -> int:
        """Wait, within a bound, for all acknowledgements; return how many are missing."""
        deadline = monotonic() + FLUSH_SECONDS
        while ((missing := self.unacknowledged()) or self._under_way) and monotonic() < deadline:
            self._room.clear()
            self._room.wait(LOOK_SECONDS)
        self._stopping.set()
        self._thread.join()
        return missing

    def _serve(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(LOOK_SECONDS)
            self._room.set()
            while self._settle():
                self._hand_over()

    def _take(self) -> None:
        """What waits is the batch under way. (With the lock.)"""
        self._under_way = list(self._waiting)
        self._waiting.clear()
        self._handed_over = False
        self._error = None

    def _settle(self) -> bool:
        """Finish the batch under way if it is acknowledged; returns whether there is another one to hand over.

        For both threads: the broker may be done before the one that hands over is.
        """
        with self._lock:
            if not self._under_way or not self._handed_over or len(self._producer):
                return False
            finished, error, self._under_way = self._under_way, self._error, []
            more = bool(self._waiting)
            if more:
                self._take()
        for unit in finished:
            unit.done(error)
        return more

    def _hand_over(self) -> None:
        for unit in self._under_way:
            for topic, records in unit.outputs.items():
                count = self._partitions.get(topic)
                partition = unit.partition % count if count and unit.partition >= 0 else ANY_PARTITION
                if any("headers" in record for record in records):
                    for record in records:
                        self._produce(topic, partition, record)
                elif records:
                    self._produce_batch(topic, partition, records)
                # librdkafka has copies.
                records.clear()
        self._handed_over = True

    def _produce_batch(self, topic: str, partition: int, records: list[Record]) -> None:
        while self._producer.produce_batch(topic, records, partition) < len(records):
            # librdkafka marks the records that it does not take.
            refused = [(record, record.pop("_error")) for record in records if "_error" in record]
            records = []
            for record, error in refused:
                if error.code() == KafkaError._QUEUE_FULL:
                    records.append(record)
                else:
                    self._error = error
            if not records:
                return
            self._wait_for_room()

    def _produce(self, topic: str, partition: int, record: Record) -> None:
        while True:
            try:
                self._producer.produce(topic, **record, partition=partition)
                return
            except BufferError:
                self._wait_for_room()
            except KafkaException as error:
                self._error = error.args[0]
                return

    def _wait_for_room(self) -> None:
        if threading.current_thread() is self._thread:
            self._producer.poll(LOOK_SECONDS)
        else:
            self._room.clear()
            self._room.wait(LOOK_SECONDS)

    def _not_delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._error = error

    def _warn(self, error: KafkaError) -> None:
        logger.warning("Kafka: %s", error, extra=RATE_LIMITED)

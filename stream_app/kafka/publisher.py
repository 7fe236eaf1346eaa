"""Publishes the outputs of batches: a batch is acknowledged when the broker has acknowledged all of its outputs."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import Producer as KafkaProducer

from machine_learning_engineering.events.topics import MAX_MESSAGE_BYTES
from machine_learning_engineering.kafka.broker_check import broker_check_options
from machine_learning_engineering.kafka.client import METADATA_REFRESH_SECONDS
from machine_learning_engineering.kafka.connection import error_logger
from machine_learning_engineering.observability.rate_limit import RATE_LIMITED
from stream_app.serving.outputs import OutputRecord

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.1
# Longer than it takes to hand a produce batch to librdkafka.
LINGER_MILLISECONDS = 100
METADATA_SECONDS = 10.0
REFRESH_SECONDS = 1.0
"""Maximum wait for the partitions of a topic while batches wait to be published."""
# librdkafka chooses the partition by the key.
ANY_PARTITION = -1

Done = Callable[[KafkaError | None], None]


class _PendingBatch(NamedTuple):
    """The outputs of one partition batch, by topic."""

    outputs: Mapping[str, list[OutputRecord]]
    partition: int
    done: Done


class Publisher:
    """An idempotent producer with a thread of its own.

    One produce batch is in flight at a time, and whatever is published meanwhile becomes the next one. So a batch is
    acknowledged when the producer's queue is empty, and only failures need individual delivery reports. Waiting costs
    nothing: librdkafka's idempotent producer sends nothing more for a partition while five *records* of it are
    unacknowledged, and while records wait in its queue beyond `linger.ms`, its thread spins at the full cost of a core.
    For the same reason nothing of a produce batch is sent before librdkafka has all of it: `linger.ms` holds the
    records back, and a flush sends them at once, in one request for each partition.

    Args:
        options: librdkafka's; see `machine_learning_engineering.kafka.client.producer_options`.
        max_request_bytes: the smallest limit of the topics; a request to the broker is not larger.
    """

    def __init__(self, options: dict[str, Any], max_request_bytes: int = MAX_MESSAGE_BYTES) -> None:
        own = {
            "linger.ms": LINGER_MILLISECONDS,
            # A partition gets the next request only after the answer to the last one; the topics take twice as much.
            "batch.size": min(MAX_MESSAGE_BYTES // 2, max_request_bytes),
            "delivery.report.only.error": True,
            "on_delivery": self._not_delivered,
            "error_cb": error_logger(options),
        }
        self._producer = KafkaProducer({**broker_check_options(), **options, **own})
        self._partition_counts: dict[str, int] = {}
        self._counts_due: dict[str, float] = {}
        # Guards the two lists.
        self._lock = threading.Lock()
        self._waiting: deque[_PendingBatch] = deque()
        self._in_flight: list[_PendingBatch] = []
        # Whether librdkafka has all of the batch in flight, and the last error of it.
        self._enqueued = False
        self._error: KafkaError | None = None
        # What ended the thread: nothing is acknowledged any more, and the process has to end.
        self.failure: BaseException | None = None
        self._queue_space = threading.Event()
        # Set where the thread has something to send.
        self._wake_up = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="inflight-publisher", daemon=True)
        self._thread.start()

    def load_partition_counts(self, topics: Iterable[str], timeout: float = METADATA_SECONDS) -> None:
        """Ask the broker for the number of partitions of `topics`; for other topics, the key chooses the partition.

        Raises:
            KafkaException: the broker is unreachable.
        """
        for topic in topics:
            found = self._producer.list_topics(topic, timeout).topics[topic].partitions
            if found:
                self._partition_counts[topic] = len(found)

    def publish(self, outputs: Mapping[str, list[OutputRecord]], partition: int, done: Done) -> None:
        """Publish records in order. Only the scoring thread may call this; a second caller could strand a batch.

        Blocks while librdkafka's queue is full, so that memory stays bounded.

        Args:
            outputs: records by topic. The lists are emptied.
            partition: number of the partition to write to (modulo the topic's partitions); negative: by key.
            done: called once, with None when all records are acknowledged, or with the error of one of the produce
                batch. As a rule the publisher's thread calls it, but this call may do so before it returns.
        """
        if not any(outputs.values()):
            done(None)
            return
        with self._lock:
            self._waiting.append(_PendingBatch(outputs, partition, done))
            if self._in_flight:
                return
            self._start_next()
        self._enqueue()
        self._wake_up.set()

    def unacknowledged(self) -> int:
        """The number of records that wait for the broker's acknowledgement. For any thread."""
        with self._lock:
            waiting = sum(len(records) for batch in self._waiting for records in batch.outputs.values())
        return waiting + len(self._producer)

    def _serve(self) -> None:
        try:
            while True:
                if not self._enqueued:
                    self._wake_up.wait(POLL_SECONDS)
                    self._wake_up.clear()
                if len(self._producer):
                    self._producer.flush(POLL_SECONDS)
                else:
                    # Errors and statistics are reported while nothing is published, too.
                    self._producer.poll(0)
                self._queue_space.set()
                while self._complete_if_delivered():
                    self._enqueue()
        except BaseException as error:
            logger.exception("the publisher's thread failed")
            self.failure = error

    def _start_next(self) -> None:
        """Make all waiting batches the one in flight. The caller holds the lock."""
        self._in_flight = list(self._waiting)
        self._waiting.clear()
        self._enqueued = False
        self._error = None

    def _complete_if_delivered(self) -> bool:
        """Finish the batch in flight if it is acknowledged; returns whether there is another one to enqueue.

        Called by both threads: the broker may acknowledge before the thread that enqueues has finished.
        """
        with self._lock:
            if not self._in_flight or not self._enqueued or len(self._producer):
                return False
            finished, error, self._in_flight, self._enqueued = self._in_flight, self._error, [], False
            more = bool(self._waiting)
            if more:
                self._start_next()
        for batch in finished:
            batch.done(error)
        return more

    def _enqueue(self) -> None:
        for batch in self._in_flight:
            for topic, records in batch.outputs.items():
                count = self._partition_counts.get(topic)
                if count and batch.partition >= count:
                    count = self._refreshed_count(topic, count)
                partition = batch.partition % count if count and batch.partition >= 0 else ANY_PARTITION
                for record in records:
                    self._produce(topic, partition, record)
                # librdkafka has copies.
                records.clear()
        self._enqueued = True

    def _refreshed_count(self, topic: str, count: int) -> int:
        """The partitions that a topic has now, asked at most every few seconds: more may have been added to it."""
        now = monotonic()
        if now < self._counts_due.get(topic, 0.0):
            return count
        self._counts_due[topic] = now + METADATA_REFRESH_SECONDS
        try:
            self.load_partition_counts([topic], REFRESH_SECONDS)
        except KafkaException as error:
            logger.warning("the partitions of %s are not known: %s", topic, error.args[0], extra=RATE_LIMITED)
        return self._partition_counts[topic]

    def _produce(self, topic: str, partition: int, record: OutputRecord) -> None:
        key, value, headers = record
        while True:
            try:
                if headers:
                    self._producer.produce(topic, value, key, partition, headers=headers)
                else:
                    self._producer.produce(topic, value, key, partition)
                return
            except BufferError:
                self._wait_for_queue_space()
            except KafkaException as error:
                self._error = error.args[0]
                return

    def _wait_for_queue_space(self) -> None:
        if threading.current_thread() is self._thread:
            self._producer.flush(POLL_SECONDS)
        else:
            self._queue_space.clear()
            self._wake_up.set()
            self._queue_space.wait(POLL_SECONDS)

    def _not_delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._error = error

"""Writer of dead letters that waits for their acknowledgement: that of the indexer and the label joiner.

The worker sends its dead letters with the other outputs of a batch, see `stream_app/serving/outputs.py`.
"""

import threading
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from machine_learning_engineering.dead_letters.letter import DeadLetterOrigin, dead_letter
from machine_learning_engineering.events.headers import headers_of
from machine_learning_engineering.events.topics import DEAD_LETTERS
from machine_learning_engineering.events.unreadable import truncated_size
from machine_learning_engineering.kafka.client import producer_options, topic_name
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.settings import KernelSettings

STAGE = "index"
REJECTED = "index_rejected"
CONFLICT = "conflicting_duplicate"
_MAX_EXPLANATION = 1_000
_METADATA_SECONDS = 5.0
# librdkafka chooses the partition by the key.
_ANY_PARTITION = -1
_TRANSIENT = (KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT, KafkaError._TRANSPORT)


class RejectedRecord(NamedTuple):
    """A record that becomes a dead letter."""

    record: Message
    reason: str
    """Stable, for programs."""
    explanation: str
    """For humans."""
    model: str | None = None
    request_id: str | None = None


class DeadLetterWriter:
    """Writes dead letters and waits until all in-sync replicas have them.

    Each goes to the partition of its record, modulo the partitions of the dead-letter topic, as the worker's do.
    """

    def __init__(self, settings: KernelSettings, stage: str = STAGE) -> None:
        self._stage = stage
        self._options = {**producer_options(settings), "linger.ms": 5}
        self._producer = Producer(self._options)
        self._topic = topic_name(settings, DEAD_LETTERS)
        self._partitions = 0

    def write(self, rejected: list[RejectedRecord], cancelled: threading.Event) -> bool:
        """Write dead letters until each is acknowledged. One may be written twice.

        If a record was rejected several times, the first rejection is written. A record that is itself a dead letter is
        not written again, because it would come back for ever: it is only logged.

        Returns:
            False if cancelled before all are acknowledged.

        Raises:
            KafkaException: The broker rejects a dead letter permanently, for example because access is denied.
        """
        first: dict[tuple[str, int, int], RejectedRecord] = {}
        for one in rejected:
            record = one.record
            first.setdefault((record.topic(), record.partition(), record.offset()), one)
        waiting = []
        for (topic, partition, offset), letter in first.items():
            if topic == self._topic:
                why = letter.explanation[:_MAX_EXPLANATION]
                log_event("dead_letters", "dead_letter_unindexed", partition=partition, offset=offset, cause=why)
            else:
                waiting.append(letter)
        while waiting and not cancelled.is_set():
            waiting = self._attempt(waiting, cancelled)
        return not waiting

    def _attempt(self, records: list[RejectedRecord], cancelled: threading.Event) -> list[RejectedRecord]:
        """Send each record once; return those to retry."""
        reports: list[tuple[RejectedRecord, KafkaError | None]] = []
        # Another thread may replace it meanwhile; these reports come from this one.
        producer = self._producer
        try:
            self._partitions = self._partitions or self._count_partitions(producer)
        except KafkaException as failure:
            if failure.args[0].code() not in _TRANSIENT:
                raise
            self._replace(producer)
            return records
        for letter in records:

            def on_delivery(error: KafkaError | None, _message: Message, letter: RejectedRecord = letter) -> None:
                reports.append((letter, error))

            while not self._produce(producer, letter, on_delivery):
                producer.poll(0.1)
                if cancelled.is_set():
                    return records
        while len(reports) < len(records):
            producer.poll(0.1)
            if cancelled.is_set():
                return records
        failed = [(letter, error) for letter, error in reports if error is not None]
        for _, error in failed:
            if error.code() not in _TRANSIENT:
                raise KafkaException(error)
        if failed:
            self._replace(producer)
        return [letter for letter, _ in failed]

    def _replace(self, producer: Producer) -> None:
        # Perhaps the client has forgotten all brokers, see `kafka.broker_check`: a new one can connect.
        if self._producer is producer:
            self._producer = Producer(self._options)

    def _count_partitions(self, producer: Producer) -> int:
        return len(producer.list_topics(self._topic, _METADATA_SECONDS).topics[self._topic].partitions)

    def _produce(self, producer: Producer, letter: RejectedRecord, on_delivery: Any) -> bool:
        """Enqueue a dead letter; return False while the client's queue is full."""
        record = letter.record
        origin = DeadLetterOrigin(
            reason=letter.reason,
            message=letter.explanation[:_MAX_EXPLANATION],
            stage=self._stage,
            topic=record.topic(),
            partition=record.partition(),
            offset=record.offset(),
            model=letter.model,
            request_id=letter.request_id,
            truncated=truncated_size(record),
        )
        key, value, headers = dead_letter(origin, record.key(), record.value(), headers_of(record))
        partition = record.partition() % self._partitions if self._partitions else _ANY_PARTITION
        try:
            producer.produce(self._topic, value, key, partition, headers=headers, on_delivery=on_delivery)
        except BufferError:
            return False
        return True

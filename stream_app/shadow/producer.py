"""Publishes the records of shadows, with a producer of its own: none is waited for, and what is lost is counted."""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

DELIVERY_SECONDS = 30
MAX_QUEUED = 100_000
STOP_SECONDS = 2.0
_CHUNK = 512


class ShadowProducer:
    """Any thread may call it.

    Args:
        options: librdkafka's; see `machine_learning_engineering.kafka.client.producer_options`.
        topic: full name.
        on_lost: called with the number of records that were not delivered.
    """

    def __init__(self, options: Mapping[str, Any], topic: str, on_lost: Callable[[int], None]) -> None:
        own = {
            # One lost record is no reason to end the producer.
            "enable.idempotence": False,
            "delivery.timeout.ms": DELIVERY_SECONDS * 1_000,
            "queue.buffering.max.messages": MAX_QUEUED,
            "queue.buffering.max.kbytes": 64 * 1024,
            "linger.ms": 200,
            "batch.num.messages": 10_000,
            "delivery.report.only.error": True,
            "on_delivery": self._delivered,
        }
        self._producer = Producer({**options, **own})
        self._topic = topic
        self._on_lost = on_lost

    def send(self, records: Iterable[tuple[bytes | None, bytes]]) -> None:
        """Send keys and values without waiting; what does not fit into the queue is lost."""
        messages = ({"key": key, "value": value} for key, value in records)
        while chunk := list(islice(messages, _CHUNK)):
            self._send(chunk)
        self.poll()

    def poll(self) -> None:
        """Take reports of what was not delivered."""
        self._producer.poll(0)

    def close(self) -> None:
        """Wait a moment for the rest."""
        if left := self._producer.flush(STOP_SECONDS):
            self._on_lost(left)

    def _send(self, messages: list[dict[str, Any]]) -> None:
        try:
            self._producer.produce_batch(self._topic, messages)
        except (BufferError, KafkaException):
            self._on_lost(sum("_error" not in message for message in messages))
        if failed := sum("_error" in message for message in messages):
            self._on_lost(failed)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._on_lost(1)

"""Sends replies to the topics that senders name, with a producer of its own.

What is wrong with such a topic (it is gone, full, or not to be written) must hold up neither outcomes nor commits. So
replies are not waited for: a reply that is lost is counted, and its result is on the topic of results anyway.
"""

from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from stream_app.serving.replies import Reply

DELIVERY_SECONDS = 10
MAX_QUEUED = 10_000


class Replier:
    """Only the scoring thread calls it.

    Args:
        options: librdkafka's; see `machine_learning_engineering.kafka.client.producer_options`.
        on_lost: called with the number of replies that were not delivered.
    """

    def __init__(self, options: dict[str, Any], on_lost: Callable[[int], None]) -> None:
        own = {
            # Without idempotence, an error of one topic leaves the others alone.
            "enable.idempotence": False,
            "delivery.timeout.ms": DELIVERY_SECONDS * 1_000,
            "queue.buffering.max.messages": MAX_QUEUED,
            "queue.buffering.max.kbytes": 64 * 1024,
            "linger.ms": 0,
            "delivery.report.only.error": True,
            "on_delivery": self._delivered,
        }
        self._producer = Producer({**options, **own})
        self._on_lost = on_lost

    def send(self, replies: Sequence[Reply]) -> None:
        """Send without waiting; what does not fit into the queue is lost."""
        lost = 0
        for reply in replies:
            try:
                self._producer.produce(reply.topic, reply.value, reply.key, reply.partition, headers=reply.headers)
            except (BufferError, KafkaException):
                lost += 1
        if lost:
            self._on_lost(lost)
        self._producer.poll(0)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._on_lost(1)

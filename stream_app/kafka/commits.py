"""Commits of offsets, partition by partition."""

import logging

from confluent_kafka import Consumer, TopicPartition

from stream_app.kafka.starts import GroupStarts
from stream_app.serving.batch import TP

logger = logging.getLogger(__name__)


def commit(consumer: Consumer, offsets: dict[TP, int], starts: GroupStarts) -> dict[TP, int]:
    """Commit offsets and wait; return those that the broker accepted. A later commit covers the others.

    Raises:
        KafkaException: all were refused, or the broker does not respond.
    """
    metadata = starts.metadata(offsets)
    wanted = [TopicPartition(*tp, offset, metadata.get(tp, "")) for tp, offset in offsets.items()]
    accepted: dict[TP, int] = {}
    for found in consumer.commit(offsets=wanted, asynchronous=False):
        tp = TP(found.topic, found.partition)
        if found.error is None:
            accepted[tp] = offsets[tp]
        else:
            logger.warning("the offset of %s was not committed: %s", tp, found.error)
    return accepted

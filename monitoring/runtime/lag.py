"""Lag of a consumer's own partitions."""

from collections.abc import MutableMapping

from confluent_kafka import KafkaException
from prometheus_client import Gauge

from machine_learning_engineering.observability.logging import log_event
from monitoring.runtime.consumer import GroupConsumer, Position


def set_lag(gauge: Gauge, consumer: GroupConsumer, next_offsets: MutableMapping[Position, int], process: str) -> None:
    """Set a gauge to the records of the assigned partitions from their next offsets on; keep it if that is unknown.

    Args:
        next_offsets: of the partitions; those that are missing are read from the broker and added.
        process: name in the service log.
    """
    try:
        assigned = consumer.assignment()
        missing = [tp for tp in assigned if (tp.topic, tp.partition) not in next_offsets]
        if missing:
            for tp in consumer.committed(missing, timeout=2.0):
                if tp.error is None:
                    next_offsets[tp.topic, tp.partition] = tp.offset
        lag = 0
        for tp in assigned:
            # The watermarks are those of the last fetch. Negative: not known yet, or nothing committed yet. What lies
            # behind the end of a partition can't be read: an open transaction.
            low, high = consumer.get_watermark_offsets(tp, cached=True)
            high = consumer.ends.get((tp.topic, tp.partition), high)
            lag += max(0, high - max(low, next_offsets.get((tp.topic, tp.partition), high), 0))
    except KafkaException as error:
        log_event(process, "lag_unknown", error=error.args[0].str())
        return
    gauge.set(lag)

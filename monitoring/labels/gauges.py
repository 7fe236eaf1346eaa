"""How far the joiner is behind, and how many labels wait: read every few seconds."""

from time import monotonic
from typing import Protocol

from confluent_kafka import Consumer, KafkaException

from machine_learning_engineering.observability.logging import log_event
from monitoring.labels.metrics import LabelJoinerMetrics
from monitoring.labels.pending import PendingLabels
from monitoring.runtime.retry import FAILURES

EVERY_SECONDS = 2.0


class Reading(Protocol):
    """What is needed of `joiner.Reader`."""

    consumer: Consumer
    committed: dict[tuple[str, int], int]

    @property
    def partitions(self) -> list[int]: ...


class Gauges:
    """Sets the gauges, at most every two seconds."""

    def __init__(self, waiting: PendingLabels, metrics: LabelJoinerMetrics) -> None:
        self._waiting = waiting
        self._metrics = metrics
        self._due = 0.0

    def update(self, reader: Reading) -> None:
        """Set them if they are due; what can't be read stays as it was."""
        if monotonic() < self._due:
            return
        self._due = monotonic() + EVERY_SECONDS
        try:
            self._metrics.lag.set(_lag(reader))
        except KafkaException as error:
            log_event("joiner", "lag_unknown", error=error.args[0].str())
        try:
            partitions = reader.partitions
            self._metrics.waiting.set(self._waiting.count(partitions) if partitions else 0)
        except FAILURES:
            # Told by whatever asks the search node for more.
            return


def _lag(reader: Reading) -> int:
    consumer = reader.consumer
    assigned = consumer.assignment()
    missing = [tp for tp in assigned if (tp.topic, tp.partition) not in reader.committed]
    if missing:
        for tp in consumer.committed(missing, timeout=2.0):
            if tp.error is None:
                reader.committed[tp.topic, tp.partition] = tp.offset
    lag = 0
    for tp in assigned:
        low, high = consumer.get_watermark_offsets(tp, cached=True)
        # Negative: not known yet, or nothing committed yet.
        lag += max(0, high - max(low, reader.committed.get((tp.topic, tp.partition), high), 0))
    return lag

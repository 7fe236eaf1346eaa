"""Lag of all consumer groups, from the broker: ends of the topics minus committed offsets."""

import threading
from time import monotonic

from confluent_kafka import KafkaException, TopicPartition

from machine_learning_engineering.kafka.client import topic_name, unpolled_consumer
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.settings import KernelSettings
from monitoring.exporter.metrics import ExporterMetrics
from monitoring.runtime.groups import READS


class LagReader:
    """Reads the lag of every group of a deployment. For one thread at a time; `close` it at the end.

    It uses one consumer per group that never subscribes, and so never joins. The admin client's
    `list_consumer_group_offsets` is no alternative: librdkafka 2.16 crashes with a segmentation fault while the group's
    coordinator is still loading, as on a broker that has just started.
    """

    def __init__(self, settings: KernelSettings, timeout: float = 10.0) -> None:
        self._settings = settings
        self._timeout = timeout
        self._connect()

    def _connect(self) -> None:
        self._consumers = {group: unpolled_consumer(self._settings, group) for group in READS}

    def reconnect(self) -> None:
        """Replace the clients: they may have forgotten all brokers, see `kafka.broker_check`."""
        self.close()
        self._connect()

    def close(self) -> None:
        """Close the connections."""
        for consumer in self._consumers.values():
            consumer.close()

    def read(self) -> dict[tuple[str, str], int]:
        """Uncommitted records by group and topic (names without prefix).

        A group without a committed offset lags from the first record on: its consumer would start there.

        Raises:
            KafkaException: the broker is unreachable or rejects the request.
        """
        return {(group, topic): self._lag(group, topic) for group, topics in READS.items() for topic in topics}

    def _lag(self, group: str, topic: str) -> int:
        consumer, name = self._consumers[group], topic_name(self._settings, topic)
        partitions = consumer.list_topics(name, timeout=self._timeout).topics[name].partitions
        lag = 0
        for committed in consumer.committed([TopicPartition(name, p) for p in partitions], timeout=self._timeout):
            low, high = consumer.get_watermark_offsets(committed, timeout=self._timeout)
            lag += max(0, high - max(low, committed.offset))
        return lag


class LagCollector(threading.Thread):
    """Exports the lag every few seconds, in a thread: a slow broker must not block the counting."""

    def __init__(self, reader: LagReader, metrics: ExporterMetrics, stopping: threading.Event, every: float) -> None:
        super().__init__(name="inflight-lag", daemon=True)
        self._reader = reader
        self._metrics = metrics
        self._stopping = stopping
        self._every = every
        self._read_at = monotonic()
        metrics.lag_checked.set_function(lambda: monotonic() - self._read_at)

    def run(self) -> None:
        failing = False
        while not self._stopping.is_set():
            try:
                lags = self._reader.read()
            except (KafkaException, TimeoutError) as error:
                if not failing:
                    log_event("exporter", "lag_unknown", error=str(error))
                failing = True
                self._reader.reconnect()
            else:
                failing = False
                self._read_at = monotonic()
                for (group, topic), records in lags.items():
                    self._metrics.lag.labels(group, topic).set(records)
            self._stopping.wait(self._every)
        self._reader.close()

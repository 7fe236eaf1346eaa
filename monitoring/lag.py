"""How far the consumer groups are behind, as the broker has it: ends of the topics against committed offsets."""

import threading
from time import monotonic

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from machine_learning_engineering.kafka import client_options, topic_name
from machine_learning_engineering.settings import Settings

from monitoring.groups import READS
from monitoring.metrics import ExporterMetrics
from monitoring.process import say


class LagReader:
    """Reads the lag of every group of a deployment."""

    def __init__(self, settings: Settings, timeout: float = 10.0) -> None:
        self._settings = settings
        self._timeout = timeout
        self._admin = AdminClient(client_options(settings))

    def read(self) -> dict[tuple[str, str], int]:
        """Records not yet committed, by group and topic (names without prefix).

        What a group has never committed counts from the topic's first record on, as its consumer would start there.

        Raises:
            KafkaException: the broker can't be reached or refuses.
        """
        lags = {}
        for group, topics in READS.items():
            committed = self._committed(topic_name(self._settings, group))
            for topic in topics:
                name = topic_name(self._settings, topic)
                lows, highs = self._offsets(name, OffsetSpec.earliest()), self._offsets(name, OffsetSpec.latest())
                lags[group, topic] = sum(
                    max(0, high - max(lows[partition], committed.get((name, partition), 0)))
                    for partition, high in highs.items()
                )
        return lags

    def _committed(self, group: str) -> dict[tuple[str, int], int]:
        asked = self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
        found = asked[group].result(self._timeout).topic_partitions or []
        return {(tp.topic, tp.partition): tp.offset for tp in found if tp.offset >= 0}

    def _offsets(self, topic: str, at: OffsetSpec) -> dict[int, int]:
        metadata = self._admin.list_topics(topic, timeout=self._timeout).topics[topic]
        asked = self._admin.list_offsets({TopicPartition(topic, partition): at for partition in metadata.partitions})
        return {tp.partition: future.result(self._timeout).offset for tp, future in asked.items()}


class LagWatch(threading.Thread):
    """Reads the lag every few seconds into the metrics, in a thread of its own: a slow broker must not stop the counting."""

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
                    say("exporter", "lag-unknown", error=str(error))
                failing = True
            else:
                failing = False
                self._read_at = monotonic()
                for (group, topic), records in lags.items():
                    self._metrics.lag.labels(group, topic).set(records)
            self._stopping.wait(self._every)

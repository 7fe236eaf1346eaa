"""Where the group begins to read topics of others, and the record of it in the group's own offsets."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from machine_learning_engineering.kafka.group_starts import start_metadata
from stream_app.kafka.lag import LagQuery
from stream_app.serving.batch import TP

logger = logging.getLogger(__name__)

BROKER_SECONDS = 10.0


class GroupStarts:
    """Starts of partitions without a committed offset. Only the poller's thread calls it.

    A group that never read a topic may begin at its end. Then the first of its members commits the ends of all
    partitions, before any record is read: so what comes later is read, whoever ends in between, and a partition that is
    added later is read from its first record. The start stays in the metadata of the committed offset, since nobody
    else would know which records the group has to answer.

    Args:
        options: librdkafka's.
        sources: topics of others by full name, with where a new group begins: at the `latest` or the `earliest` record.
    """

    def __init__(self, consumer: Consumer, options: dict[str, Any], sources: Mapping[str, str]) -> None:
        self._consumer = consumer
        self._sources = sources
        self._query = LagQuery(options)
        self._metadata: dict[TP, str] = {}

    def prepare(self, partitions: Iterable[TP]) -> None:
        """Commit where topics begin whose partitions were assigned: a worker that owns them misses no record."""
        latest = {tp.topic: tp.partition for tp in partitions if self._sources.get(tp.topic) == "latest"}
        for topic, partition in latest.items():
            try:
                self.first(topic, partition)
            except KafkaException as error:
                # Tried again as the partition's first record is fetched.
                logger.warning("where the group begins to read %s is not committed yet: %s", topic, error.args[0])

    def first(self, topic: str, partition: int) -> int:
        """The offset at which a partition is begun that has no committed one.

        Raises:
            KafkaException: the broker does not respond, or refuses the commit, as during a rebalance.
        """
        if self._sources.get(topic) != "latest":
            return int(OFFSET_BEGINNING)
        numbers = self._consumer.list_topics(topic, timeout=BROKER_SECONDS).topics[topic].partitions
        found = self._committed([TopicPartition(topic, number) for number in numbers])
        committed: dict[int, int] = {tp.partition: tp.offset for tp in found if tp.offset >= 0}
        if committed:
            return committed.get(partition, int(OFFSET_BEGINNING))
        ends = self._query.ends([TP(topic, number) for number in numbers], BROKER_SECONDS)
        for tp, end in ends.items():
            self._metadata[tp] = start_metadata(end)
        wanted = [TopicPartition(*tp, end, self._metadata[tp]) for tp, end in ends.items()]
        for tp in self._consumer.commit(offsets=wanted, asynchronous=False):
            if tp.error is not None:
                raise KafkaException(tp.error)
        return ends[TP(topic, partition)]

    def restarted(self, tp: TP) -> None:
        """Note that a topic was created again: its first record is the start."""
        if tp.topic in self._sources:
            self._metadata[tp] = start_metadata(0)

    def metadata(self, partitions: Iterable[TP]) -> dict[TP, str]:
        """Metadata to commit with offsets; none for topics of the deployment.

        Raises:
            KafkaException: the broker does not respond.
        """
        wanted = [tp for tp in partitions if tp.topic in self._sources]
        if unknown := [TopicPartition(*tp) for tp in wanted if tp not in self._metadata]:
            for found in self._committed(unknown):
                self._metadata[TP(found.topic, found.partition)] = found.metadata or ""
        return {tp: self._metadata[tp] for tp in wanted}

    def _committed(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        found = self._consumer.committed(partitions, timeout=BROKER_SECONDS)
        for tp in found:
            if tp.error is not None:
                raise KafkaException(tp.error)
        return list(found)

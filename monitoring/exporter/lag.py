"""Lag of all consumer groups, from the broker: what each group has not committed, and since when it waits."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from time import monotonic
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import PartitionMetadata

from machine_learning_engineering.kafka.client import ask_leader, consumer_options, topic_name, unpolled_consumer
from machine_learning_engineering.kafka.positions import is_end
from machine_learning_engineering.settings import KernelSettings
from monitoring.runtime.consumer import Position
from monitoring.runtime.groups import READS, WORKER

TOPICS = tuple(dict.fromkeys(topic for topics in READS.values() for topic in topics))
PEEK_SECONDS = 2.0
"""Maximum time to wait for the first records of the partitions that wait."""


class PartitionLag(NamedTuple):
    """What a group has not committed of a partition."""

    partition: int
    committed: int | None
    """The next offset to read; None if the group never committed one."""
    low: int
    """The first offset that the broker still has."""
    position: int
    """The offset of the first record that waits; `high` if none does."""
    high: int
    timestamp: float | None
    """When the first record that waits was written, by its timestamp in seconds; None if that is unknown."""

    @property
    def records(self) -> int:
        """Records that wait, at most: aborted records and ends of transactions between them count too."""
        return self.high - self.position


class TopicState(NamedTuple):
    """The partitions of a topic as its brokers have them."""

    ends: dict[int, tuple[int, int]]
    """By partition: the first offset, and the one after the last record that is readable."""
    hidden: dict[int, int]
    """By partition: records behind `ends` that an open transaction hides from all readers."""
    under_replicated: int
    """Partitions without a leader, or with replicas that are not in sync."""


class Lags(NamedTuple):
    """One reading. Topics and groups are named without the deployment's prefix."""

    topics: dict[str, TopicState]
    groups: dict[tuple[str, str], list[PartitionLag]]


class LagReader:
    """Reads the lag of every group of a deployment. For one thread at a time; `close` it at the end.

    It uses one consumer per group that never subscribes, and so never joins. The admin client's
    `list_consumer_group_offsets` is no alternative: librdkafka 2.16 crashes with a segmentation fault while the group's
    coordinator is still loading, as on a broker that has just started.

    Only records count. The offsets behind the committed one may hold nothing but the ends of transactions, or records
    of aborted ones, which no consumer is ever handed: so the first record that waits is looked at.

    Args:
        settings: Connection and topic prefix.
        timeout: seconds for each request to the broker.
        sources: returns the full names of existing topics that workers read, beside those of the deployment.
    """

    def __init__(
        self, settings: KernelSettings, timeout: float = 10.0, sources: Callable[[], Iterable[str]] = tuple
    ) -> None:
        self._settings = settings
        self._timeout = timeout
        self._find_sources = sources
        self._sources: tuple[str, ...] = ()
        self._connect()

    def _connect(self) -> None:
        self._consumers = {group: unpolled_consumer(self._settings, group) for group in READS}
        options = consumer_options(self._settings, "inflight-reader") | {
            "fetch.wait.max.ms": 20,
            # One record of each partition is enough.
            "queued.min.messages": 1,
            "fetch.queue.backoff.ms": 10,
            "fetch.message.max.bytes": 64 * 1024,
        }
        del options["error_cb"]
        self._peeking = Consumer(options)
        self._uncommitted = Consumer(options | {"isolation.level": "read_uncommitted"})
        # By topic, partition and offset: the first record from there on. None: there is none before the offset given.
        self._first: dict[tuple[str, int, int], tuple[int, float | None]] = {}

    def reconnect(self) -> None:
        """Replace the clients: they may have forgotten all brokers, see `kafka.broker_check`."""
        self.close()
        self._connect()

    def close(self) -> None:
        """Close the connections."""
        for consumer in (*self._consumers.values(), self._peeking, self._uncommitted):
            consumer.close()

    def read(self) -> dict[tuple[str, str], int]:
        """Uncommitted records by group and topic (names without prefix). Raises as `measure` does."""
        return {key: sum(part.records for part in parts) for key, parts in self.measure().groups.items()}

    def measure(self) -> Lags:
        """The lag of each group on each of its topics; a topic that does not exist has no partitions.

        A group without a committed offset lags from the first record on: its consumer would start there. So would one
        whose committed offset the topic does not have, as after the topic was deleted and created again.

        Raises:
            KafkaException: the broker is unreachable or rejects a request.
        """
        self._sources = tuple(topic for topic in self._find_sources() if topic not in TOPICS)
        topics = {
            topic: ask_leader(partial(self._topic_state, self._name(topic)), self._timeout)
            for topic in (*TOPICS, *self._sources)
        }
        reads = {**READS, WORKER: (*READS[WORKER], *self._sources)}
        starts: dict[tuple[str, str], list[tuple[int, int | None, int]]] = {}
        for group, names in reads.items():
            for topic in names:
                ends = topics[topic].ends
                committed = self._committed(group, self._name(topic), ends)
                starts[group, topic] = [
                    (number, offset, ends[number][0] if offset is None else _start(offset, *ends[number]))
                    for number, offset in committed.items()
                ]
        self._look_at_first_records(
            {
                (self._name(topic), number, start): topics[topic].ends[number][1]
                for (_, topic), parts in starts.items()
                for number, _, start in parts
            }
        )
        groups = {}
        for (group, topic), parts in starts.items():
            name, ends = self._name(topic), topics[topic].ends
            groups[group, topic] = [
                PartitionLag(number, committed, ends[number][0], *self._waiting(name, number, start, ends[number][1]))
                for number, committed, start in parts
            ]
        return Lags(topics, groups)

    def _name(self, topic: str) -> str:
        """The full name of a topic; an existing one has no other."""
        return topic if topic in self._sources else topic_name(self._settings, topic)

    def _topic_state(self, name: str) -> TopicState:
        consumer = self._peeking
        metadata = consumer.list_topics(name, timeout=self._timeout).topics[name]
        if metadata.error is not None and metadata.error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise KafkaException(metadata.error)
        ends, hidden = {}, {}
        for number in metadata.partitions:
            partition = TopicPartition(name, number)
            low, high = consumer.get_watermark_offsets(partition, timeout=self._timeout)
            _, last = self._uncommitted.get_watermark_offsets(partition, timeout=self._timeout)
            ends[number], hidden[number] = (low, high), max(0, last - high)
        return TopicState(ends, hidden, sum(map(_is_under_replicated, metadata.partitions.values())))

    def _committed(self, group: str, name: str, partitions: Iterable[int]) -> dict[int, int | None]:
        asked = [TopicPartition(name, number) for number in partitions]
        found = self._consumers[group].committed(asked, timeout=self._timeout) if asked else []
        for one in found:
            if one.error is not None:
                raise KafkaException(one.error)
        return {one.partition: one.offset if one.offset >= 0 else None for one in found}

    def _waiting(self, name: str, partition: int, start: int, high: int) -> tuple[int, int, float | None]:
        """Offset of the first record that waits, the end, and when that record was written."""
        offset, timestamp = self._first.get((name, partition, start), (start, None))
        return min(offset, high), high, timestamp if offset < high else None

    def _look_at_first_records(self, wanted: dict[tuple[str, int, int], int]) -> None:
        """Find the first record from each offset on.

        Args:
            wanted: topic, partition and offset, with the end of the partition.
        """
        # What is known stays true: records do not move. Where there was none up to an offset, look on from there.
        self._first = {key: found for key, found in self._first.items() if key in wanted}
        unknown: dict[tuple[str, int, int], list[tuple[str, int, int]]] = {}
        for key, high in wanted.items():
            offset, timestamp = self._first.get(key, (key[2], None))
            if offset < high and timestamp is None:
                unknown.setdefault((key[0], key[1], offset), []).append(key)
        for batch in _each_partition_once(unknown):
            for position, found in self._peek(batch).items():
                for key in unknown[(*position, batch[position])]:
                    self._first[key] = found

    def _peek(self, offsets: dict[Position, int]) -> dict[Position, tuple[int, float | None]]:
        """By partition: offset and time of the first record from an offset on, or the end of the partition and None."""
        consumer = self._peeking
        found: dict[Position, tuple[int, float | None]] = {}
        deadline = monotonic() + min(PEEK_SECONDS, self._timeout)
        consumer.assign([TopicPartition(*position, offset) for position, offset in offsets.items()])
        try:
            while len(found) < len(offsets) and (left := deadline - monotonic()) > 0:
                for message in consumer.consume(1, left):
                    position = message.topic(), message.partition()
                    if position in found or position not in offsets:
                        continue
                    if message.error() is None:
                        _, milliseconds = message.timestamp()
                        found[position] = message.offset(), milliseconds / 1_000
                    elif is_end(message):
                        found[position] = message.offset(), None
        finally:
            consumer.unassign()
        return found


def _start(committed: int, low: int, high: int) -> int:
    """Where a consumer goes on: at the committed offset, or at the first one if the topic does not have it."""
    return committed if low <= committed <= high else low


def _is_under_replicated(partition: PartitionMetadata) -> bool:
    return partition.leader < 0 or len(partition.isrs) < len(partition.replicas)


def _each_partition_once(offsets: Iterable[tuple[str, int, int]]) -> Iterator[dict[Position, int]]:
    """Batches of offsets by partition: one consumer can be at one offset of a partition only."""
    rest = sorted(offsets)
    while rest:
        batch: dict[Position, int] = {}
        later = []
        for topic, number, offset in rest:
            if (topic, number) in batch:
                later.append((topic, number, offset))
            else:
                batch[topic, number] = offset
        yield batch
        rest = later

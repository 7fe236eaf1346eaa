"""The states of partitions, on a topic. The last one of each partition is valid."""

import time

import msgspec
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from machine_learning_engineering.events.topics import DRIFT_STATE
from machine_learning_engineering.kafka.client import consumer_options, partition_ends, topic_name
from machine_learning_engineering.kafka.positions import is_end, is_unreadable, skip_unreadable
from machine_learning_engineering.settings import KernelSettings
from monitoring.drift.windows import State

TIMEOUT = 30.0
"""Seconds allowed for a broker's response, and for the states of committed offsets to arrive."""
_TAIL = 64


def state_key(partition: int) -> bytes:
    """The key of the state of a partition of the log."""
    return str(partition).encode()


class StateReader:
    """Reads the last state of a partition, searching backwards from the end of the topic. Call `close` when done."""

    def __init__(self, settings: KernelSettings) -> None:
        self._topic = topic_name(settings, DRIFT_STATE)
        # It never joins the group. Like all of librdkafka's consumers, it reads committed records only.
        self._options = consumer_options(settings, "inflight-drift-state")
        self._consumer = Consumer(self._options)
        self._partitions = 0

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def partition_of(self, partition: int) -> int:
        """The partition of this topic with the state of a log partition.

        Raises:
            KafkaException: the broker is unreachable or the topic does not exist.
        """
        if not self._partitions:
            found = self._consumer.list_topics(self._topic, timeout=TIMEOUT).topics[self._topic]
            if found.error is not None:
                raise KafkaException(found.error)
            self._partitions = len(found.partitions)
        return partition % self._partitions

    def read(self, partition: int, committed: int, until: float) -> State | None:
        """The state that was committed together with this offset of the log; None if it no longer exists.

        A transaction is committed partition by partition: the state may become visible after the offset.

        Args:
            until: a monotonic time. The topic is read once, and again until then.

        Raises:
            KafkaException: the broker is unreachable.
            TimeoutError: it does not respond.
        """
        while True:
            state = self._last(partition)
            if state is not None and state.next_offset == committed:
                return state
            if time.monotonic() > until:
                return None
            time.sleep(0.1)

    def _last(self, partition: int) -> State | None:
        where = TopicPartition(self._topic, self.partition_of(partition))
        low, high = partition_ends(self._consumer, where, TIMEOUT)
        length = _TAIL
        while True:
            begin = max(low, high - length)
            found = None
            for message in self._from(where, begin):
                value = message.value()
                if message.key() == state_key(partition) and value is not None:
                    found = value
            if found is not None:
                try:
                    return msgspec.json.decode(found, type=State)
                except (ValueError, RecursionError):
                    # Written by another release, or not by Inflight.
                    return None
            if begin == low:
                return None
            length *= 16

    def _from(self, where: TopicPartition, begin: int) -> list[Message]:
        """The committed records from an offset to the end of the partition."""
        found: list[Message] = []
        self._consumer.assign([TopicPartition(where.topic, where.partition, begin)])
        deadline = time.monotonic() + TIMEOUT
        try:
            while time.monotonic() < deadline:
                for message in self._consumer.consume(1_000, 0.05):
                    error = message.error()
                    if error is None:
                        found.append(message)
                    elif is_end(message):
                        return found
                    elif is_unreadable(message):
                        # Not written by Inflight.
                        skip_unreadable(self._consumer, self._options, message)
                    elif error.fatal():
                        raise KafkaException(error)
        finally:
            self._consumer.unassign()
        raise TimeoutError(f"{where.topic} was not read to its end within {TIMEOUT:.0f} s")

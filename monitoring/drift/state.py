"""The states of partitions on a topic: the last one of each counts."""

import time

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from machine_learning_engineering.events.topics import DRIFT_STATE
from machine_learning_engineering.kafka.client import consumer_options, topic_name
from machine_learning_engineering.settings import KernelSettings
from monitoring.drift.windows import State

PATIENCE = 30.0
"""Seconds until a broker has to answer, and until the states of committed offsets have to be there."""
_TAIL = 64


def state_key(partition: int) -> bytes:
    """The key of the state of a partition of the log."""
    return str(partition).encode()


def deadline() -> float:
    """The moment, of the monotonic clock, until when the states of offsets that are committed now have to be there."""
    return time.monotonic() + PATIENCE


class StateReader:
    """Reads the last state of a partition from the end of the topic backwards. `close` it at the end."""

    def __init__(self, settings: KernelSettings) -> None:
        self._topic = topic_name(settings, DRIFT_STATE)
        # It never joins the group, and reads only what was committed: the default of librdkafka.
        self._consumer = Consumer({**consumer_options(settings, "inflight-drift-state"), "enable.partition.eof": True})
        self._partitions = 0

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()

    def partition_of(self, partition: int) -> int:
        """The partition of this topic that has the state of a partition of the log.

        Raises:
            KafkaException: the broker can't be reached or there is no such topic.
        """
        if not self._partitions:
            found = self._consumer.list_topics(self._topic, timeout=PATIENCE).topics[self._topic]
            if found.error is not None:
                raise KafkaException(found.error)
            self._partitions = len(found.partitions)
        return partition % self._partitions

    def read(self, partition: int, committed: int, until: float) -> State | None:
        """The state that was committed together with this offset of the log; None if it is gone.

        A transaction reaches its partitions one after the other: the state may come a moment after the offset.

        Args:
            until: it is looked for once, and then until this moment, which `deadline` gives.

        Raises:
            KafkaException: the broker can't be reached.
            TimeoutError: it does not answer.
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
        low, high = self._consumer.get_watermark_offsets(where, timeout=PATIENCE)
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
                except msgspec.MsgspecError:
                    # Of another release.
                    return None
            if begin == low:
                return None
            length *= 16

    def _from(self, where: TopicPartition, begin: int) -> list[Message]:
        """The committed records from an offset to the end."""
        found: list[Message] = []
        self._consumer.assign([TopicPartition(where.topic, where.partition, begin)])
        deadline = time.monotonic() + PATIENCE
        try:
            while time.monotonic() < deadline:
                for message in self._consumer.consume(1_000, 0.05):
                    error = message.error()
                    if error is None:
                        found.append(message)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        return found
                    elif error.fatal():
                        raise KafkaException(error)
        finally:
            self._consumer.unassign()
        raise TimeoutError(f"{where.topic} could not be read to its end within {PATIENCE:.0f} s")

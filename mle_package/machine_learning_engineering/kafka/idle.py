"""A consumer that pauses while there is nothing to read."""

import logging
import time

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from machine_learning_engineering.kafka.positions import is_end

logger = logging.getLogger(__name__)

_SHORTEST_PAUSE, _PAUSE_SHARE = 0.002, 0.05
"""Pause in seconds right after a record, and growth per second without one."""
_WAKE_SECONDS = 1.0


class IdlePausingConsumer:
    """`Consumer.consume` with a pause at the end of all partitions, if `idle_pause` (seconds) is above 0.

    The pause grows with the time since the last record, up to `idle_pause`: requests that follow one another closely do
    not wait for it. Pausing discards the current fetch, so it requires the end-of-partition events that
    `consumer_options` enables.

    Args:
        consumer: Is consumed through this object alone.
        idle_pause: Longest pause in seconds.
        patient: Always make the longest pause: for a consumer that nobody waits for, whose short pauses would take the
            processor from those that are waited for.
    """

    def __init__(self, consumer: Consumer, idle_pause: float, *, patient: bool = False) -> None:
        self._consumer = consumer
        self._idle_pause = idle_pause
        self._patient = patient
        self._at_end: set[tuple[str, int]] = set()
        self._last_record = 0.0

    def consume(self, count: int, timeout: float, *, may_pause: bool = True) -> list[Message]:
        """Consume records, errors and end-of-partition events, as `Consumer.consume` does; pause if nothing is new.

        Args:
            count: Maximum number of messages.
            timeout: Maximum wait in seconds, without the pause.
            may_pause: False while the consumer is paused for another reason: the end of a pause resumes it.
        """
        if not self._idle_pause:
            return self._consumer.consume(count, timeout)  # type: ignore[no-any-return]
        messages, found = self._read(count, timeout, may_pause)
        if not found and may_pause and timeout and (assignment := self._ended()):
            self._consumer.pause(assignment)
            # Rebalances are handled here too; partitions assigned in the meantime are not paused.
            more: list[Message] = self._consumer.consume(count, self._pause())
            self._consumer.resume(self._consumer.assignment())
            self._at_end.clear()
            self._wake(assignment)
            found = self._note_ends(more)
            messages += more
        if found:
            self._last_record = time.monotonic()
        return messages

    def _read(self, count: int, timeout: float, may_pause: bool) -> tuple[list[Message], int]:
        """Messages, and how many of them are no ends: at most `count`.

        consume(n, t) waits for n messages or t, and librdkafka asks an idle broker without a pause all the while. So
        this waits for one record, or for the ends of all partitions.
        """
        until = time.monotonic() + timeout
        messages: list[Message] = []
        while True:
            # The end of a partition comes once: an earlier call may have taken the last one.
            wait = 0 if may_pause and self._ended() else max(0.0, until - time.monotonic())
            one = self._consumer.consume(1, wait)
            if not one:
                return messages, 0
            messages += one
            if self._note_ends(one):
                more = self._consumer.consume(count - 1, 0) if count > 1 else []
                return messages + more, 1 + self._note_ends(more)

    def _ended(self) -> list[TopicPartition]:
        """The assignment if all of it is at its end. Between two assignments there is none, and nothing to pause."""
        if not self._at_end:
            return []
        assignment: list[TopicPartition] = self._consumer.assignment()
        return assignment if self._at_end.issuperset((tp.topic, tp.partition) for tp in assignment) else []

    def _pause(self) -> float:
        if self._patient:
            return self._idle_pause
        return min(self._idle_pause, max(_SHORTEST_PAUSE, _PAUSE_SHARE * (time.monotonic() - self._last_record)))

    def _wake(self, assignment: list[TopicPartition]) -> None:
        """Send a request: until its thread has something to do, librdkafka fetches nothing, up to a second long."""
        try:
            self._consumer.get_watermark_offsets(assignment[0], timeout=_WAKE_SECONDS, cached=False)
        except KafkaException as error:
            # The next fetch meets the same broker, and its error is handled there.
            logger.debug("Kafka: %s", error)

    def _note_ends(self, messages: list[Message]) -> int:
        """Note which partitions are at their end; return the number of the other messages."""
        others = 0
        for message in messages:
            if is_end(message):
                self._at_end.add((message.topic(), message.partition()))
            else:
                self._at_end.discard((message.topic(), message.partition()))
                others += 1
        return others

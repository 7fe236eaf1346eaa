"""Reads the ends of the topics that the console shows, without a consumer group, while somebody looks."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from machine_learning_engineering.dead_letters.letter import read_origin
from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.headers import headers_of
from machine_learning_engineering.events.topics import DEAD_LETTERS, LABELS, LOGS, MEASUREMENTS, MODEL_EVENTS
from machine_learning_engineering.kafka.client import METADATA_REFRESH_SECONDS, consumer_options, topic_name
from machine_learning_engineering.kafka.idle import IdlePausingConsumer
from machine_learning_engineering.kafka.positions import is_end, is_unreadable, skip_unreadable
from machine_learning_engineering.observability.rate_limit import RATE_LIMITED
from machine_learning_engineering.settings import KernelSettings
from producers.gateway.console.memory import (
    MAX_EVENTS,
    MAX_LABELS,
    MAX_LETTERS,
    MAX_PREDICTIONS,
    Letter,
    Memory,
)
from producers.gateway.console.series import BUCKET_SECONDS, MAX_BUCKETS

logger = logging.getLogger(__name__)

READER = "inflight-reader"
BACK_SECONDS = MAX_BUCKETS * BUCKET_SECONDS
"""Predictions are read from so long ago, if there are not too many."""
_LAST = {
    LOGS: 2 * MAX_PREDICTIONS,
    DEAD_LETTERS: MAX_LETTERS,
    LABELS: MAX_LABELS,
    MEASUREMENTS: 2_000,
    MODEL_EVENTS: 2 * MAX_EVENTS,
}
"""Records of each topic from before the start."""
_BROKER_SECONDS = 5.0


class Reader:
    """Follows the topics in a thread of its own, until it is closed.

    Args:
        settings: of the deployment.
        memory: gets what is read.
    """

    def __init__(self, settings: KernelSettings, memory: Memory) -> None:
        self._settings = settings
        self._memory = memory
        self._names = {topic_name(settings, topic): topic for topic in _LAST}
        self._options: dict[str, Any] = {
            **consumer_options(settings, READER),
            "group.id": READER,
            "queued.max.messages.kbytes": 16 * 1024,
            "reconnect.backoff.max.ms": 1_000,
        }
        self.problem = "the broker has not responded yet"
        """Why nothing is read; empty if something is."""
        self.hidden: list[str] = []
        """Topics that are not there, or that this gateway may not read."""
        self.complete = False
        """Whether everything from before the start is read."""
        self.since = time.time() - BACK_SECONDS
        """From when on all predictions are known, in seconds since the epoch."""
        self._behind: dict[tuple[str, int], int] = {}
        self._assigned: set[tuple[str, int]] = set()
        self._truncated: set[tuple[str, int]] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inflight-gateway-console", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let the thread end."""
        self._stopping.set()

    def close(self, timeout: float) -> None:
        """End the thread."""
        self.stop()
        self._thread.join(timeout)

    def _run(self) -> None:
        consumer = Consumer(self._options)
        fetch = IdlePausingConsumer(consumer, self._settings.kafka_idle_pause)
        try:
            refresh_due = 0.0
            while not self._stopping.is_set():
                if time.monotonic() >= refresh_due:
                    self._refresh(consumer)
                    refresh_due = time.monotonic() + (METADATA_REFRESH_SECONDS if self._assigned else 0.5)
                if not self._assigned:
                    self._stopping.wait(0.2)
                    continue
                messages = fetch.consume(1, 0.2)
                for message in messages + (fetch.consume(1_000, 0) if messages else []):
                    self._take(consumer, message)
        except Exception:
            logger.exception("the console can't read the stream any more")
            self.problem = "a bug ended the reading of the stream: the service log of the gateway says more"
        finally:
            consumer.close()

    def _refresh(self, consumer: Consumer) -> None:
        """Assign the partitions that are not yet."""
        try:
            found, hidden = [], []
            for name in self._names:
                topic = consumer.list_topics(name, _BROKER_SECONDS).topics[name]
                found += [(name, number) for number in topic.partitions]
                if topic.error is not None or not topic.partitions:
                    hidden.append(self._names[name])
            new = [one for one in found if one not in self._assigned]
            if new:
                starts = self._starts(consumer, new)
                consumer.incremental_assign([TopicPartition(*one, start) for one, start in starts.items()])
                self._assigned.update(new)
            self.hidden = hidden
            self.complete = not self._behind
            self.problem = "" if self._assigned else "its topics do not exist yet: start a worker"
        except KafkaException as error:
            self.problem = f"the broker does not respond ({error.args[0].name()}): is it running?"

    def _starts(self, consumer: Consumer, new: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Where to begin: predictions an hour ago, but not too many of them, and some of all others."""
        earliest = int((time.time() - BACK_SECONDS) * 1_000)
        logs = [one for one in new if self._names[one[0]] == LOGS]
        asked = [TopicPartition(*one, earliest) for one in logs]
        times = {
            (tp.topic, tp.partition): tp.offset
            for tp in (consumer.offsets_for_times(asked, timeout=_BROKER_SECONDS) if asked else ())
        }
        counts = {name: sum(topic == name for topic, _ in new) for name, _ in new}
        starts: dict[tuple[str, int], int] = {}
        for one in new:
            low, high = consumer.get_watermark_offsets(TopicPartition(*one), timeout=_BROKER_SECONDS)
            most = high - -(-_LAST[self._names[one[0]]] // counts[one[0]])
            start = max(low, most)
            if one in times:
                since = times[one] if times[one] >= 0 else high
                if start > max(low, since):
                    self._truncated.add(one)
                start = max(start, since)
            starts[one] = start
            if start < high:
                self._behind[one] = high
        return starts

    def _take(self, consumer: Consumer, message: Message) -> None:
        error = message.error()
        position = message.topic(), message.partition()
        if error is None:
            self._note(message)
        elif is_unreadable(message):
            skip_unreadable(consumer, self._options, message)
        elif error.code() != KafkaError._PARTITION_EOF:
            logger.warning("Kafka: %s", error.str(), extra=RATE_LIMITED)
        end, offset = self._behind.get(position), message.offset()
        if end is None or offset is None or (error is not None and not is_end(message)):
            return
        if (offset if error is not None else offset + 1) >= end:
            del self._behind[position]
            self.complete = not self._behind

    def _note(self, message: Message) -> None:
        memory, topic = self._memory, self._names[message.topic()]
        value: bytes = message.value() or b""
        at = message.timestamp()[1] / 1_000
        position = message.topic(), message.partition()
        if position in self._truncated:
            # There were too many: nothing before this one is known.
            self._truncated.discard(position)
            self.since = max(self.since, at)
        if topic == DEAD_LETTERS:
            note_letter(memory, message, at)
        else:
            note(memory, topic, value, at)


def note(memory: Memory, topic: str, value: bytes, at: float) -> None:
    """Add a record to the memory. What is no event of this topic is left out.

    Args:
        at: the broker's time, in seconds since the epoch.
    """
    add = _ADD[topic]
    try:
        add(memory, value, at)
    except (ValueError, RecursionError):
        logger.warning("ignored a record of %s that is no event of ours", topic, extra=RATE_LIMITED)


def note_letter(memory: Memory, message: Any, at: float) -> None:
    """Add a dead letter to the memory. A record without an origin is none."""
    try:
        origin = read_origin(headers_of(message))
    except ValueError:
        return
    value = message.value()
    memory.letter(Letter(message.partition(), message.offset(), at, origin, None if value is None else len(value)))


def _add_log(memory: Memory, value: bytes, at: float) -> None:
    memory.log(events.decode_log(value), at, len(value))


def _add_label(memory: Memory, value: bytes, at: float) -> None:
    memory.label(events.decode_label(value), at, len(value))


def _add_measurement(memory: Memory, value: bytes, at: float) -> None:
    memory.measurement(events.decode_measurement(value))


def _add_model_event(memory: Memory, value: bytes, at: float) -> None:
    memory.model_event(events.decode_model_event(value), at)


_ADD: dict[str, Callable[[Memory, bytes, float], None]] = {
    LOGS: _add_log,
    LABELS: _add_label,
    MEASUREMENTS: _add_measurement,
    MODEL_EVENTS: _add_model_event,
}

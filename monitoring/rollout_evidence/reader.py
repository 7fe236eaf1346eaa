"""`StageReader`: the records of log, shadows and labels since a time, without a group."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from machine_learning_engineering.events.topics import LABELS, LOGS, SHADOWS
from machine_learning_engineering.kafka.broker_check import broker_check_options
from machine_learning_engineering.kafka.client import METADATA_REFRESH_SECONDS, consumer_options, topic_name
from machine_learning_engineering.kafka.positions import is_end, is_unreadable, skip_unreadable
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.settings import KernelSettings

TOPICS = (LOGS, SHADOWS, LABELS)
BATCH = 5_000
"""Records that one call reads at most, about."""
_CHUNK = 500
_READER = "inflight-reader"
_BROKER_SECONDS = 5.0

_Where = tuple[str, int]


class StageReader:
    """Hands out the records of the three topics since a time, by the broker's clock, and then new ones.

    Labels wait until the requests from before the start are read: else each would have to be kept until then.

    Args:
        settings: Connection and prefix.
        since: Where to begin.
        clock: Monotonic time in seconds.
    """

    def __init__(self, settings: KernelSettings, since: datetime, clock: Callable[[], float]) -> None:
        self._names = {topic_name(settings, topic): topic for topic in TOPICS}
        self._since = since
        self._clock = clock
        self._options: dict[str, Any] = {
            **broker_check_options(),
            **consumer_options(settings, "reader"),
            # A consumer needs a group, which this one never joins.
            "group.id": _READER,
            "queued.max.messages.kbytes": 16 * 1024,
            "reconnect.backoff.max.ms": 1_000,
        }
        self._consumer = Consumer(self._options)
        self._assigned: set[_Where] = set()
        self._behind: dict[_Where, int] = {}
        self._paused: list[TopicPartition] = []
        self._refresh_due = 0.0

    @property
    def is_caught_up(self) -> bool:
        """Whether all records were handed out that there were at the start."""
        return bool(self._assigned) and not self._behind

    def read(self, timeout: float) -> list[tuple[str, Message]]:
        """The next records, each with its topic without the prefix; waits for the first one at most `timeout` seconds.

        Raises:
            KafkaException: A permanent error, or the broker does not respond.
            NoBrokersLeftError: Only a new client can connect again.
        """
        if self._clock() >= self._refresh_due:
            self._refresh()
            self._refresh_due = self._clock() + METADATA_REFRESH_SECONDS
        found: list[tuple[str, Message]] = []
        messages = self._consumer.consume(1, timeout)
        while messages:
            found += [(self._names[one.topic()], one) for one in messages if self._is_record(one)]
            if len(found) >= BATCH:
                break
            messages = self._consumer.consume(_CHUNK, 0)
        self._release_labels()
        return found

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()

    def _refresh(self) -> None:
        """Assign the partitions that are not yet: topics gain some, and may not be there at first."""
        listed = [(name, self._consumer.list_topics(name, _BROKER_SECONDS).topics[name]) for name in self._names]
        found = [(name, number) for name, topic in listed if topic.error is None for number in topic.partitions]
        new = [where for where in found if where not in self._assigned]
        if not new:
            return
        milliseconds = int(self._since.timestamp() * 1_000)
        asked = [TopicPartition(*where, milliseconds) for where in new]
        starts = []
        for tp in self._consumer.offsets_for_times(asked, timeout=_BROKER_SECONDS):
            where = (tp.topic, tp.partition)
            low, high = self._consumer.get_watermark_offsets(TopicPartition(*where), timeout=_BROKER_SECONDS)
            # A negative offset: no record is that new.
            start = max(low, tp.offset) if tp.offset >= 0 else high
            starts.append(TopicPartition(*where, start))
            if start < high:
                self._behind[where] = high
        self._consumer.incremental_assign(starts)
        self._assigned.update(new)
        labels = [tp for tp in starts if self._names[tp.topic] == LABELS]
        if labels and self._has_requests_behind():
            self._consumer.pause(labels)
            self._paused += labels

    def _release_labels(self) -> None:
        if self._paused and not self._has_requests_behind():
            self._consumer.resume(self._paused)
            self._paused = []

    def _has_requests_behind(self) -> bool:
        return any(self._names[name] != LABELS for name, _ in self._behind)

    def _is_record(self, message: Message) -> bool:
        error, where, offset = message.error(), (message.topic(), message.partition()), message.offset()
        if error is not None and error.fatal():
            raise KafkaException(error)
        if error is not None and is_unreadable(message):
            skipped = skip_unreadable(self._consumer, self._options, message)
            if skipped is None:
                return False
            log_event("rollout-evidence", "batch_unreadable", topic=where[0], partition=where[1], offset=offset)
            offset = skipped.offset() + 1
        elif error is not None and not is_end(message):
            log_event("rollout-evidence", "consumer_error", error=error.str())
            return False
        elif error is None:
            offset += 1
        if offset >= self._behind.get(where, offset + 1):
            del self._behind[where]
        return error is None

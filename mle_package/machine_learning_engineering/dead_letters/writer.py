"""Setting aside records that can't be indexed: their original bytes to the dead letters, acknowledged there."""

import threading
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from machine_learning_engineering.dead_letters.letter import DeadLetterOrigin, dead_letter
from machine_learning_engineering.events.headers import headers_of
from machine_learning_engineering.events.topics import DEAD_LETTERS
from machine_learning_engineering.kafka.client import producer_options, topic_name
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.settings import KernelSettings

STAGE = "index"
REJECTED = "index_rejected"
CONFLICT = "conflicting_duplicate"
_MAX_EXPLANATION = 1_000
_TRANSIENT = (KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT, KafkaError._TRANSPORT)


class DeadLetter(NamedTuple):
    """A record to set aside, and why."""

    record: Message
    reason: str
    explanation: str
    model: str | None = None
    request_id: str | None = None


class DeadLetterWriter:
    """Writes dead letters and waits until the broker has them on all in-sync replicas."""

    def __init__(self, settings: KernelSettings, stage: str = STAGE) -> None:
        self._stage = stage
        self._producer = Producer({**producer_options(settings), "linger.ms": 5})
        self._topic = topic_name(settings, DEAD_LETTERS)

    def write(self, letters: list[DeadLetter], cancelled: threading.Event) -> bool:
        """Write letters until each is acknowledged; False if cancelled before that. A letter may be written twice.

        Of several letters about one record the first one is written. A record that is a dead letter itself is not set
        aside again, or it would come back for ever: it stays where it is, and is told of.

        Raises:
            KafkaException: the broker refuses a letter for good, for example because access is denied.
        """
        first: dict[tuple[str, int, int], DeadLetter] = {}
        for letter in letters:
            record = letter.record
            first.setdefault((record.topic(), record.partition(), record.offset()), letter)
        waiting = []
        for (topic, partition, offset), letter in first.items():
            if topic == self._topic:
                why = letter.explanation[:_MAX_EXPLANATION]
                log_event("indexer", "dead_letter_unindexed", partition=partition, offset=offset, cause=why)
            else:
                waiting.append(letter)
        while waiting and not cancelled.is_set():
            waiting = self._attempt(waiting, cancelled)
        return not waiting

    def _attempt(self, letters: list[DeadLetter], cancelled: threading.Event) -> list[DeadLetter]:
        """Send each letter once; give back those that have to be sent again."""
        reports: list[tuple[DeadLetter, KafkaError | None]] = []
        for letter in letters:

            def on_delivery(error: KafkaError | None, _message: Message, letter: DeadLetter = letter) -> None:
                reports.append((letter, error))

            while not self._produce(letter, on_delivery):
                self._producer.poll(0.1)
                if cancelled.is_set():
                    return letters
        while len(reports) < len(letters):
            self._producer.poll(0.1)
            if cancelled.is_set():
                return letters
        failed = [(letter, error) for letter, error in reports if error is not None]
        for _, error in failed:
            if error.code() not in _TRANSIENT:
                raise KafkaException(error)
        return [letter for letter, _ in failed]

    def _produce(self, letter: DeadLetter, on_delivery: Any) -> bool:
        """Hand a letter to the client; False while its queue is full."""
        record = letter.record
        origin = DeadLetterOrigin(
            reason=letter.reason,
            message=letter.explanation[:_MAX_EXPLANATION],
            stage=self._stage,
            topic=record.topic(),
            partition=record.partition(),
            offset=record.offset(),
            model=letter.model,
            request_id=letter.request_id,
        )
        key, value, headers = dead_letter(origin, record.key(), record.value(), headers_of(record))
        try:
            self._producer.produce(self._topic, value, key, headers=headers, on_delivery=on_delivery)
        except BufferError:
            return False
        return True

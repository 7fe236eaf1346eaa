"""What every consumer does alike: an error that mends itself stops nothing, and a fatal one ends the process."""

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from monitoring.runtime.consumer import commit, records

PASSING = KafkaError(KafkaError._ALL_BROKERS_DOWN, "away")
FATAL = KafkaError(KafkaError._FATAL, "fenced", fatal=True)


class Message:
    def __init__(self, error: KafkaError | None = None) -> None:
        self._error = error

    def error(self) -> KafkaError | None:
        return self._error


class Group:
    """A consumer whose commits fail with an error, if it is given one."""

    def __init__(self, error: KafkaError | None = None) -> None:
        self.error = error
        self.refused: set[str] = set()
        self.committed: list[TopicPartition] = []

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> list[Any]:
        assert not asynchronous
        if self.error is not None:
            raise KafkaException(self.error)
        self.committed = offsets
        return [Answer(found, found.topic in self.refused) for found in offsets]


class Answer:
    """What the broker says of one partition; the client raises only if all were refused."""

    def __init__(self, asked: TopicPartition, refused: bool) -> None:
        self.topic, self.partition = asked.topic, asked.partition
        self.error = PASSING if refused else None


def test_errors_that_mend_themselves_are_told_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """The records around them are there, in their order."""
    messages: list[Any] = [Message(), Message(PASSING), Message()]
    assert records(messages, "indexer") == [messages[0], messages[2]]
    assert "consumer error" in caplog.text


def test_a_fatal_error_ends_the_process() -> None:
    """Whether it comes in place of a record or as the answer to a commit."""
    consumer: Any = Group(FATAL)
    poisoned: list[Any] = [Message(), Message(FATAL)]
    with pytest.raises(KafkaException):
        records(poisoned, "indexer")
    with pytest.raises(KafkaException):
        commit(consumer, {("t", 0): 7}, "indexer")


def test_a_commit_says_whether_it_succeeded(caplog: pytest.LogCaptureFixture) -> None:
    """One that did not is told, and is no reason to end: a later one covers it."""
    consumer: Any = Group()
    assert commit(consumer, {("t", 0): 7, ("u", 2): 3}, "indexer")
    assert consumer.committed == [TopicPartition("t", 0, 7), TopicPartition("u", 2, 3)]
    consumer.refused.add("u")
    assert not commit(consumer, {("t", 0): 8, ("u", 2): 4}, "indexer")
    consumer.error = PASSING
    assert not commit(consumer, {("t", 0): 8}, "indexer")
    assert "commit failed" in caplog.text

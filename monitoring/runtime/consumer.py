"""Consumers: options, records and commits that all processes share."""

from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from machine_learning_engineering.kafka.broker_check import broker_check_options
from machine_learning_engineering.kafka.client import consumer_options
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.settings import KernelSettings

Position = tuple[str, int]
"""Topic and partition."""


def group_options(settings: KernelSettings, group: str, prefetch_kbytes: int = 32 * 1024) -> dict[str, Any]:
    """Options of one consumer of a group, with a bound on the memory of what librdkafka fetches ahead.

    The consumer has to be consumed continuously. `consume` raises NoBrokersLeftError if the client can't reconnect:
    the process ends, and its supervisor restarts it.
    """
    return {
        **broker_check_options(),
        **consumer_options(settings, group),
        "session.timeout.ms": int(settings.kafka_session_timeout * 1000),
        "queued.max.messages.kbytes": prefetch_kbytes,
    }


def records(messages: Iterable[Message], process: str) -> list[Message]:
    """The records among messages. Transient errors among them are written to the service log of `process`.

    Raises:
        KafkaException: a permanent error.
    """
    found = []
    for message in messages:
        error = message.error()
        if error is None:
            found.append(message)
        elif error.fatal():
            raise KafkaException(error)
        else:
            log_event(process, "consumer_error", error=error.str())
    return found


def commit(consumer: Consumer, next_offsets: Mapping[Position, int], process: str) -> bool:
    """Commit the next offset of each partition; return whether that succeeded. If not, a later commit covers it.

    If a partition belongs to another consumer by now, its revocation follows, and the new owner rereads those records.

    Raises:
        KafkaException: a permanent error.
    """
    offsets = [TopicPartition(topic, partition, offset) for (topic, partition), offset in next_offsets.items()]
    try:
        consumer.commit(offsets=offsets, asynchronous=False)
    except KafkaException as error:
        if error.args[0].fatal():
            raise
        log_event(process, "commit_failed", error=error.args[0].str())
        return False
    return True

"""What every consumer of this room does alike: telling records from errors, and committing what is done."""

from collections.abc import Iterable, Mapping

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from machine_learning_engineering.observability.logging import log_event


def records(messages: Iterable[Message], process: str) -> list[Message]:
    """The records among what a consumer gave. Errors that mend themselves are said in the service log of `process`.

    Raises:
        KafkaException: an error that retrying does not mend.
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


def commit(consumer: Consumer, next_offsets: Mapping[tuple[str, int], int], process: str) -> bool:
    """Commit the next offset of each topic and partition; whether that succeeded. If not, a later commit covers it.

    Where a partition is no longer ours, its revocation is on its way, and its next owner reads those records again.

    Raises:
        KafkaException: an error that retrying does not mend.
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

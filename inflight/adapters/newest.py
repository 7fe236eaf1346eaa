"""The newest records of any topic, read without a group: nothing is committed."""

from machine_learning_engineering.adoption.rehearsal import Record
from machine_learning_engineering.events.headers import headers_of
from machine_learning_engineering.kafka.client import end_offsets, read_to_end
from machine_learning_engineering.settings import KernelSettings

TIMEOUT = 15.0
"""Seconds without a record after which the broker counts as unreachable."""


class MissingSource(ValueError):
    """The topic does not exist. The message names the fix."""


def newest_records(settings: KernelSettings, topic: str, count: int) -> list[Record]:
    """Read the newest records of a topic, oldest first.

    Args:
        settings: Connection.
        topic: Full name; the deployment's prefix is not added.
        count: Maximum number.

    Raises:
        MissingSource: There is no such topic.
        KafkaException, TimeoutError: The broker is unreachable or denies access.
    """
    unprefixed = settings.model_copy(update={"topic_prefix": ""})
    if not end_offsets(unprefixed, topic, TIMEOUT):
        raise MissingSource(
            f"there is no topic `{topic}` on {settings.kafka_bootstrap_servers}: --topic is its full name"
        )
    messages = list(read_to_end(unprefixed, topic, TIMEOUT, last_n=count))
    messages.sort(key=lambda message: (message.timestamp()[1], message.partition(), message.offset()))
    return [
        Record(one.value(), one.key(), headers_of(one), topic, one.partition(), one.offset())
        for one in messages[-count:]
    ]

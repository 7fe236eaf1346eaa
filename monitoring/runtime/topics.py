"""Creates and checks the topics of a process before it starts."""

from collections.abc import Collection

from machine_learning_engineering.kafka.topic_check import require_topics
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.settings import KernelSettings
from monitoring.runtime.retry import CREATE_TOPICS_TIMEOUT


def prepare_topics(
    process: str, settings: KernelSettings, *, reads: Collection[str], writes: Collection[str] = ()
) -> None:
    """Create missing topics, and log a line for each setting that should be different.

    Args:
        process: name in the service log.
        reads: topics that the process reads, without the deployment's prefix.
        writes: topics that it writes.

    Raises:
        UnusableTopics: with such settings the process must not start.
        KafkaException: the broker is unreachable or rejects a request.
        TimeoutError: a created topic got no leader.
    """
    for fault in require_topics(settings, reads=reads, writes=writes, timeout=CREATE_TOPICS_TIMEOUT):
        log_event(process, "topic_setting", cause=str(fault))

"""A search node or a broker that is away: how that shows, how long to wait, and how a process waits at its start."""

import random
import threading
from collections.abc import Callable

from confluent_kafka import KafkaException
from elasticsearch import ApiError, TransportError

from machine_learning_engineering.observability.logging import log_event
from monitoring.elastic import client as search

FAILURES = (ApiError, TransportError, search.StrangeAnswerError)
"""What a call to the search node raises: a refusal, no answer, or an answer of something else."""
FIRST_WAIT = 0.2
LONGEST_WAIT = 10.0
TOPIC_SECONDS = 5.0
"""So long an attempt to create the topics may take: a process that is to end while the broker is away waits for it."""


def cause_of(error: Exception) -> str:
    """The HTTP status, what the Kafka client says, or the kind of error."""
    if isinstance(error, KafkaException):
        return str(error.args[0].str())
    return str(error.meta.status) if isinstance(error, ApiError) else type(error).__name__


def wait_before(attempt: int) -> float:
    """Seconds until the next attempt, the first being 0: each time about twice as long, and no two processes alike."""
    return min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(attempt, 16)) * random.uniform(0.5, 1.0)


def prepare(process: str, steps: Callable[[], object], stopping: threading.Event) -> None:
    """Put templates and topics in place, however long broker and search node take to come up, or until `stopping`.

    Args:
        process: who says in the service log that it waits.
        steps: what is done, all of it again after an outage.

    Raises:
        elasticsearch.ApiError: the search node refuses for good.
    """
    attempt = 0
    while not stopping.is_set():
        try:
            steps()
            return
        except (*FAILURES, KafkaException, TimeoutError) as error:
            if isinstance(error, ApiError) and error.meta.status < 500 and error.meta.status != 429:
                raise
            cause = str(error) if isinstance(error, TimeoutError) else cause_of(error)
        if attempt % 10 == 0:
            log_event(process, "waiting", cause=cause)
        stopping.wait(wait_before(attempt))
        attempt += 1

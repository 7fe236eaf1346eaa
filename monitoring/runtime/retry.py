"""Retries while Elasticsearch or Kafka is unavailable."""

import random
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from confluent_kafka import KafkaException
from elasticsearch import ApiError
from prometheus_client import Counter

from machine_learning_engineering.observability.logging import log_event
from monitoring.elastic.bulk import describe_refusal
from monitoring.elastic.client import FAILURES, elasticsearch_error
from monitoring.runtime.metrics import Children

FIRST_WAIT = 0.2
LONGEST_WAIT = 10.0
CREATE_TOPICS_TIMEOUT = 5.0
"""Seconds of an attempt to create the topics: a process that is stopped meanwhile waits for it."""
ATTEMPT_SECONDS = 2.0
"""Timeout of one attempt of `Retry`: signals are handled between attempts, not within."""
STOP_SECONDS = 10.0
"""Time that `Retry` waits for a broker once the process stops."""


def error_label(error: Exception) -> str:
    """The HTTP status, the Kafka client's message, or the type of the error."""
    if isinstance(error, KafkaException):
        return str(error.args[0].str())
    return str(error.meta.status) if isinstance(error, ApiError) else type(error).__name__


def error_reason(error: Exception) -> str:
    """Why Elasticsearch refuses a request, without quoting a document; empty if unknown."""
    return describe_refusal(elasticsearch_error(error)) if isinstance(error, ApiError) else ""


def backoff_seconds(attempt: int) -> float:
    """Seconds until the next attempt; attempts count from 0. Exponential, with a limit and jitter."""
    return min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(attempt, 16)) * random.uniform(0.5, 1.0)


class Backoff:
    """Counts the retries of a process, logs some of them, and says how long to wait.

    Args:
        process: name in the service log.
        retries: the counter, by cause.
    """

    def __init__(self, process: str, retries: Counter) -> None:
        self._process = process
        self._retries = Children(retries)

    def count(self, cause: str) -> None:
        """Count a retry that follows at once."""
        self._retries(cause).inc()

    def next(self, attempt: int, cause: str, **fields: Any) -> float:
        """Count a retry and return the seconds to wait before it; log the first, the sixth and every 30th."""
        self.count(cause)
        seconds = backoff_seconds(attempt)
        if attempt in (0, 5) or attempt % 30 == 29:
            wait = round(seconds, 2)
            log_event(self._process, "retrying", cause=cause, attempt=attempt + 1, wait_seconds=wait, **fields)
        return seconds


def run_until_ready(process: str, setup: Callable[[], object], stopping: threading.Event) -> None:
    """Run `setup` (templates, topics) until it succeeds or `stopping` is set, however long that takes.

    Args:
        process: name in the service log.
        setup: repeated as a whole after a failure.

    Raises:
        elasticsearch.ApiError: a permanent rejection.
    """
    attempt = 0
    while not stopping.is_set():
        try:
            setup()
            return
        except (*FAILURES, KafkaException, TimeoutError) as error:
            if isinstance(error, ApiError) and error.meta.status < 500 and error.meta.status != 429:
                raise
            cause = str(error) if isinstance(error, TimeoutError) else error_label(error)
            reason = error_reason(error)
        if attempt % 10 == 0:
            log_event(process, "waiting", cause=cause, **({"reason": reason} if reason else {}))
        stopping.wait(backoff_seconds(attempt))
        attempt += 1


class Retry:
    """Repeats a call to Kafka until the broker responds, at most for `timeout` seconds.

    Args:
        stopping: once it is set, at most for `STOP_SECONDS`.
    """

    def __init__(self, timeout: float, stopping: threading.Event) -> None:
        self._timeout = timeout
        self._stopping = stopping

    def __call__(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Make a call; its last argument is the timeout.

        Raises:
            KafkaException: a permanent error, or the broker is still unavailable.
        """
        began = monotonic()
        while True:
            try:
                call(*arguments, ATTEMPT_SECONDS)
                return
            except KafkaException as error:
                timeout = min(self._timeout, STOP_SECONDS) if self._stopping.is_set() else self._timeout
                if not error.args[0].retriable() or monotonic() - began > timeout:
                    raise

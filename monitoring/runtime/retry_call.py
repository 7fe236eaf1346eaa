"""Calls to a broker that may be away for a while."""

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

from confluent_kafka import KafkaException

ANSWER_SECONDS = 2.0
"""So long a call waits before it is made again: signals are heard in between, not within."""
STOP_SECONDS = 10.0
"""So long a broker is waited for when the process is to stop."""


class Insistence:
    """Makes a call until the broker has answered, or has been away for `patience` seconds.

    Args:
        stopping: when it is set, there is less patience.
    """

    def __init__(self, patience: float, stopping: threading.Event) -> None:
        self._patience = patience
        self._stopping = stopping

    def __call__(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Make a call, whose last argument is the time-out.

        Raises:
            KafkaException: an error that retrying does not mend, or the broker is still away.
        """
        began = monotonic()
        while True:
            try:
                call(*arguments, ANSWER_SECONDS)
                return
            except KafkaException as error:
                patience = min(self._patience, STOP_SECONDS) if self._stopping.is_set() else self._patience
                if not error.args[0].retriable() or monotonic() - began > patience:
                    raise

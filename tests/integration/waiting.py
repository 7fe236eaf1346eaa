"""Waiting for a condition with a deadline, while brokers may be away; and what was measured."""

import contextlib
import time
from collections.abc import Callable

from confluent_kafka import KafkaException

AWAY = (KafkaException, TimeoutError, OSError)


def until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Poll until `condition` is true; a broker that is away counts as no. Returns how long that took, in seconds."""
    started = time.monotonic()
    while True:
        with contextlib.suppress(*AWAY):
            if condition():
                return time.monotonic() - started
        assert time.monotonic() - started < seconds, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)


def told(question: Callable[[], object]) -> object:
    try:
        return question()
    except AWAY as error:
        return error


def figures(**measured: object) -> None:
    """Print what was measured: `pytest -rP` shows it."""
    print("measured:", ", ".join(f"{name} {value}" for name, value in measured.items()))

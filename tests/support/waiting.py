"""Waiting for a condition with a deadline, while brokers may be away; and what was measured."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaException
from elasticsearch import ApiError

AWAY = (KafkaException, TimeoutError, OSError)


def until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """Poll until `condition` is true; a node that is away counts as no. Returns how long that took, in seconds.

    The machine is for what is waited for: a condition that takes long is polled less often.
    """
    started = time.monotonic()
    while True:
        asked = time.monotonic()
        try:
            if condition():
                return time.monotonic() - started
        except AWAY:
            pass
        except ApiError as error:
            # A shard is away: an index that was just made has none for a moment.
            if error.meta.status != 503:
                raise
        assert time.monotonic() - started < seconds, f"not within {seconds:.0f} s: {what}"
        time.sleep(min(2.0, max(0.1, 2 * (time.monotonic() - asked))))


async def until_true(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """The first true value of `condition`, polled on the event loop."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        await asyncio.sleep(0.01)
    return found


def told(question: Callable[[], object]) -> object:
    try:
        return question()
    except AWAY as error:
        return error


def figures(**measured: object) -> None:
    """Print what was measured: `pytest -rP` shows it."""
    print("measured:", ", ".join(f"{name} {value}" for name, value in measured.items()))

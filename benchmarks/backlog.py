"""A backlog on topics with the broker's clock, and how fast a process works it off."""

import subprocess
import time
from collections.abc import Mapping, Sequence

from confluent_kafka.admin import AdminClient, NewTopic

from benchmarks.deployment import EvaluationError
from inflight.settings import Settings
from machine_learning_engineering.events.topics import MAX_MESSAGE_BYTES
from machine_learning_engineering.kafka.client import client_options, end_offsets, read_to_end

LIMIT_SECONDS = 300.0
_CLOCK = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(MAX_MESSAGE_BYTES)}


def create(settings: Settings, *topics: str) -> None:
    """Create topics by their full names."""
    admin = AdminClient(client_options(settings))
    wanted = [NewTopic(name, settings.topic_partitions, 1, config=_CLOCK) for name in topics]
    for future in admin.create_topics(wanted).values():
        future.result(60)


def rate(settings: Settings, command: Sequence[str], environment: Mapping[str, str], topic: str, count: int) -> float:
    """Results a second of a process that starts now, from the second tenth on.

    Args:
        settings: those of the topic of results.
        command: the process.
        environment: its environment.
        topic: of its results, without the prefix of the settings.
        count: number of results.

    Raises:
        EvaluationError: it ends, or has not answered all in time.
    """
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + LIMIT_SECONDS
        while sum(high for _, high in end_offsets(settings, topic).values()) < count:
            if time.monotonic() > deadline or process.poll() is not None:
                raise EvaluationError(f"{command} has not answered {count} events in {LIMIT_SECONDS:g} s")
            time.sleep(0.2)
    finally:
        process.terminate()
        process.wait(60)
    times: list[int] = sorted(record.timestamp()[1] for record in read_to_end(settings, topic))
    return 0.9 * count / max(1e-3, (times[-1] - times[count // 10]) / 1000)

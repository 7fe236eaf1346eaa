"""What the tests of the stream share: start a worker program, feed it, look at what came out."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from inflight.settings import Settings
from machine_learning_engineering.events.topics import LOGS, REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import (
    consumer_options,
    end_offsets,
    producer_options,
    read_to_end,
    topic_name,
)

PROGRAMS = Path(__file__).parent
GROUP = "inflight-worker"


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true value of `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)
    return found


class Program:
    """A program of this folder as a process, with its standard error in a file."""

    def __init__(self, name: str, settings: Settings, *arguments: str, **overrides: Any) -> None:
        self.log_path = settings.home / f"{name}-{time.monotonic_ns()}.log"
        changed = settings.model_copy(update=overrides)
        environment = {
            **os.environ,
            "INFLIGHT_HOME": str(settings.home),
            **{
                f"INFLIGHT_{field.upper()}": str(value)
                for field, value in changed.model_dump(exclude_unset=False).items()
                if isinstance(value, str | int | float) and not isinstance(value, bool)
            },
        }
        with self.log_path.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(PROGRAMS / f"{name}.py"), *arguments],
                cwd=settings.home,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def wait(self, seconds: float) -> int:
        """The exit code; fails, and kills, if the program runs for longer."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"still running after {seconds} s:\n{self.log[-3_000:]}") from None

    def terminate(self, seconds: float = 120.0) -> int:
        """SIGTERM; the exit code, within `seconds`."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(seconds)

    def metrics(self) -> dict[str, float]:
        """The worker's metrics now, by name with labels; empty as long as it serves none."""
        found = re.search(r"metrics on (http://[^\s\"]+)", self.log)
        if found is None:
            return {}
        try:
            with urllib.request.urlopen(found[1], timeout=20) as answer:
                text = answer.read().decode()
        except OSError:
            return {}
        return {name: float(value) for name, value in re.findall(r"^(inflight\S*) (\S+)$", text, re.MULTILINE)}

    def completed(self) -> float:
        return self.metrics().get('inflight_worker_records_total{outcome="completed"}', 0.0)


@contextmanager
def running(name: str, settings: Settings, *arguments: str, **overrides: Any) -> Iterator[Program]:
    """A program, killed at the end if it still runs; its log is printed if the test fails."""
    program = Program(name, settings, *arguments, **overrides)
    try:
        yield program
    except BaseException:
        print(f"--- {name} {program.process.pid}\n{program.log[-5_000:]}")
        raise
    finally:
        if program.process.poll() is None:
            program.process.kill()
        program.process.wait()


def publish(settings: Settings, requests: Iterable[tuple[str, dict[str, Any]]]) -> None:
    """Requests by id; returns when all are acknowledged."""
    producer = Producer({**producer_options(settings), "linger.ms": 5})
    for request_id, features in requests:
        value = msgspec.json.encode({"request_id": request_id, "model": "doubling", "features": features})
        while True:
            try:
                producer.produce(topic_name(settings, REQUESTS), value, request_id)
                break
            except BufferError:
                producer.poll(0.1)
    assert producer.flush(300) == 0


def ids_of(settings: Settings, topic: str = RESULTS) -> Counter[str]:
    """How often each request id is on a topic."""
    return Counter(message.key().decode() for message in read_to_end(settings, topic))


def count_of(settings: Settings, topic: str = RESULTS) -> int:
    """Records on a topic."""
    return sum(high - low for low, high in end_offsets(settings, topic).values())


def committed(settings: Settings, group: str = GROUP) -> dict[int, int]:
    """The committed offset of each partition of the requests; 0 where there is none."""
    consumer = Consumer(consumer_options(settings, group))
    name = topic_name(settings, REQUESTS)
    try:
        partitions = [TopicPartition(name, number) for number in range(settings.topic_partitions)]
        return {found.partition: max(0, found.offset) for found in consumer.committed(partitions, timeout=30)}
    finally:
        consumer.close()


def answered(settings: Settings, ids: Iterable[str]) -> dict[str, Any]:
    """Compare the outcomes with the requests: `lost` and `repeated` ids, on the results and in the log."""
    wanted = set(ids)
    found = {topic: ids_of(settings, topic) for topic in (RESULTS, LOGS)}
    return {
        "lost": {topic: len(wanted - set(counter)) for topic, counter in found.items()},
        "repeated": {topic: sum(counter.values()) - len(counter) for topic, counter in found.items()},
        "unknown": {topic: len(set(counter) - wanted) for topic, counter in found.items()},
    }


def lost(settings: Settings) -> set[str]:
    """Ids of the requests below the committed offset that have no result: they will never get one."""
    offsets, results = committed(settings), ids_of(settings)
    return {
        message.key().decode()
        for message in read_to_end(settings, REQUESTS)
        if message.offset() < offsets[message.partition()] and message.key().decode() not in results
    }


NOTHING_AMISS = {key: {RESULTS: 0, LOGS: 0} for key in ("lost", "repeated", "unknown")}

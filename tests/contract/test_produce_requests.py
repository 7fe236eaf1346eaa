"""How the worker's outputs go to a broker: as many records as there are, and few requests."""

import time
from typing import Any

import msgspec
import pytest

from inflight.settings import Settings
from machine_learning_engineering.events.topics import LOGS, RESULTS
from machine_learning_engineering.kafka.client import end_offsets, producer_options, topic_name
from stream_app.kafka.publisher import Publisher
from stream_app.serving.outputs import OutputRecord

PARTITIONS = range(3)
# Each is handed over in far less than the publisher's linger, also by a busy machine.
RECORDS = 300


class Counted:
    """A publisher, with the number of produce requests that its client has sent."""

    def __init__(self, settings: Settings) -> None:
        self.statistics: dict[str, Any] = {}
        self.seen = 0
        options = {"statistics.interval.ms": 50, "stats_cb": self._note}
        self.publisher = Publisher({**producer_options(settings), **options})
        self.publisher.load_partition_counts([topic_name(settings, RESULTS), topic_name(settings, LOGS)])

    def _note(self, statistics: str) -> None:
        self.statistics = msgspec.json.decode(statistics)
        self.seen += 1

    def requests(self) -> int:
        """Once the client has counted all that happened before."""
        # Some may have been made before, and wait.
        last = self.seen + 4
        until(lambda: self.seen >= last)
        return sum(broker["req"].get("Produce", 0) for broker in self.statistics["brokers"].values())


def until(condition: Any, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)


def outputs(settings: Settings, size: int) -> dict[str, list[OutputRecord]]:
    return {
        topic_name(settings, name): [(b"key-%d" % number, b"v" * size, None) for number in range(RECORDS)]
        for name in (RESULTS, LOGS)
    }


@pytest.mark.usefixtures("each_broker")
@pytest.mark.parametrize("size", [200, 5_000])
def test_a_produce_batch_is_one_request_for_each_partition(settings: Settings, size: int) -> None:
    """A second one would wait for the first, and a processor would spin meanwhile."""
    counted = Counted(settings)
    done: list[Any] = []
    # The first of an idempotent producer asks for its id, and connects.
    counted.publisher.publish(outputs(settings, 1), 0, done.append)
    until(lambda: len(done) == 1)
    before = counted.requests()
    for number, partition in enumerate(PARTITIONS, 2):
        counted.publisher.publish(outputs(settings, size), partition, done.append)
        until(lambda number=number: len(done) == number)  # type: ignore[misc]
    assert done == [None] * 4
    # One partition of two topics, three times.
    assert counted.requests() - before == 2 * len(PARTITIONS)
    published = sum(high - low for name in (RESULTS, LOGS) for low, high in end_offsets(settings, name).values())
    assert published == 4 * 2 * RECORDS

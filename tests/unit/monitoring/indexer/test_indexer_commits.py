"""What the indexer commits when batches fail or are cancelled: never what was read after one of them."""

from collections import Counter
from contextlib import nullcontext
from typing import Any, cast

import pytest
from confluent_kafka import TopicPartition
from prometheus_client import CollectorRegistry

from inflight.settings import Settings
from monitoring.indexer.batch import Batch
from monitoring.indexer.delivery import Delivery, Tally
from monitoring.indexer.in_flight import BulkTask
from monitoring.indexer.metrics import IndexerMetrics
from monitoring.indexer.process import Indexer

TOPIC = "prediction-logs"


class Broker:
    """A consumer that notes what is committed."""

    def __init__(self) -> None:
        self.committed: list[int] = []
        self.ends: dict[tuple[str, int], int] = {}

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        self.committed += [offset.offset for offset in offsets]
        return offsets

    def forget(self, partitions: list[TopicPartition]) -> None:
        """They were revoked."""
        self.ends.clear()


class FinishedTask:
    """A task that has ended: with a tally, cancelled, or failed."""

    def __init__(self, next_offset: int, tally: Tally | None, error: Exception | None = None) -> None:
        self.batch, self.topic, self.tally, self.error = Batch(), TOPIC, tally, error
        self.batch.next_offsets[TOPIC, 0] = next_offset

    def is_alive(self) -> bool:
        return False

    def join(self, timeout: float) -> None:
        """It is over."""


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def indexer(broker: Broker) -> Indexer:
    """One that has not subscribed to anything, so that no broker is asked."""
    settings = Settings(_env_file=None, kafka_bootstrap_servers="127.0.0.1:1")  # type: ignore[call-arg]
    found = Indexer(settings, cast(Delivery, None), IndexerMetrics(CollectorRegistry()))
    found._consumer.close()
    found._consumer = cast(Any, broker)
    return found


def in_flight(indexer: Indexer, *tasks: FinishedTask) -> None:
    indexer._tasks.extend(cast(list[BulkTask], tasks))


def test_what_is_done_is_committed_in_order(indexer: Indexer, broker: Broker) -> None:
    """The last offset of all that is done."""
    in_flight(indexer, FinishedTask(10, Counter()), FinishedTask(20, Counter()))
    indexer._settle()
    assert broker.committed == [20]


def test_nothing_behind_a_cancelled_batch_is_committed(indexer: Indexer, broker: Broker) -> None:
    """A process that ends cancels what hangs, and then its consumer's goodbye settles what is left."""
    in_flight(indexer, FinishedTask(10, Counter()), FinishedTask(20, None), FinishedTask(30, Counter()))
    indexer._on_revoke(cast(Any, broker), [])
    assert broker.committed == [10]


def test_nothing_behind_a_failed_batch_is_committed(indexer: Indexer, broker: Broker) -> None:
    """The error ends the process, on whose way out the consumer says goodbye, too."""
    in_flight(indexer, FinishedTask(10, None, PermissionError("no")), FinishedTask(20, Counter()))
    with pytest.raises(PermissionError):
        indexer._settle()
    indexer._on_revoke(cast(Any, broker), [])
    assert broker.committed == []


def test_the_end_of_a_partition_is_committed_when_all_before_it_is_done(indexer: Indexer, broker: Broker) -> None:
    """A transaction's marker lies behind the last record; otherwise it would count as lag forever."""
    broker.ends[TOPIC, 0] = 11
    in_flight(indexer, FinishedTask(10, Counter()))
    indexer._lanes[TOPIC].batch.next_offsets[TOPIC, 0] = 10
    indexer._settle()
    assert broker.committed == [10]
    indexer._lanes[TOPIC].batch.next_offsets.clear()
    indexer._settle()
    indexer._settle()
    assert broker.committed == [10, 11]


def test_an_end_behind_a_batch_that_is_not_done_is_not_committed(indexer: Indexer, broker: Broker) -> None:
    """Neither after a cancellation nor after an error, on whose way out the consumer says goodbye."""
    for error in (None, PermissionError("no")):
        broker.ends[TOPIC, 0] = 31
        in_flight(indexer, FinishedTask(30, None, error))
        with nullcontext() if error is None else pytest.raises(PermissionError):
            indexer._settle()
        indexer._on_revoke(cast(Any, broker), [])
    assert broker.committed == []

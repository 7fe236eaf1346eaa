"""What the indexer commits when batches fail or are cancelled: never what was read after one of them."""

from collections import Counter
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

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> None:
        self.committed += [offset.offset for offset in offsets]

    def resume(self, partitions: list[TopicPartition]) -> None:
        """Nothing is paused."""


class FinishedTask:
    """A task that has ended: with a tally, cancelled, or failed."""

    def __init__(self, next_offset: int, tally: Tally | None, error: Exception | None = None) -> None:
        self.batch, self.tally, self.error = Batch(), tally, error
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

"""Batches that are sent to Elasticsearch while the next ones are read."""

import threading
from collections.abc import Mapping

from monitoring.indexer.batch import Batch
from monitoring.indexer.delivery import Delivery, Tally
from monitoring.indexer.projections import Projection
from monitoring.settings import IndexerSettings


class BulkTask(threading.Thread):
    """Delivery of one batch. A daemon thread: a request that hangs must not keep a drained process alive."""

    def __init__(self, delivery: Delivery, batch: Batch, cancelled: threading.Event, topic: str) -> None:
        super().__init__(name="inflight-bulk", daemon=True)
        self.batch = batch
        self.topic = topic
        self.tally: Tally | None = None
        self.error: BaseException | None = None
        self._delivery = delivery
        self._cancelled = cancelled

    def run(self) -> None:
        try:
            self.tally = self._delivery.deliver(self.batch, self._cancelled)
        except BaseException as error:
            # Raised again by the thread that settles the task.
            self.error = error
        finally:
            self.batch.settled.set()


class Lane:
    """The next batch of one topic: due at a time, and paused once it is full and Elasticsearch does not take it.

    Args:
        topic: its name in this deployment.
    """

    def __init__(self, topic: str, projections: Mapping[str, Projection]) -> None:
        self.topic = topic
        self._projections = projections
        self.batch = Batch(projections)
        self.due = 0.0
        self.paused = False
        self.blocked_since: float | None = None

    def start_next(self) -> bool:
        """Start an empty batch; return whether the topic was paused."""
        was_paused, self.paused = self.paused, False
        self.batch = Batch(self._projections)
        self.blocked_since = None
        return was_paused

    def is_full(self, settings: IndexerSettings) -> bool:
        """Whether the batch has the maximum of records or bytes."""
        records, size = settings.elasticsearch_batch_records, settings.elasticsearch_batch_bytes
        return self.batch.records >= records or self.batch.bytes >= size

"""Batches that are sent to Elasticsearch while the next ones are read."""

import threading

from monitoring.indexer.batch import Batch
from monitoring.indexer.delivery import Delivery, Tally


class BulkTask(threading.Thread):
    """Delivery of one batch. A daemon thread: a request that hangs must not keep a drained process alive."""

    def __init__(self, delivery: Delivery, batch: Batch, cancelled: threading.Event) -> None:
        super().__init__(name="inflight-bulk", daemon=True)
        self.batch = batch
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

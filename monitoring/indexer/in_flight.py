"""A batch that is brought into Elasticsearch beside the reading of the next ones."""

import threading

from monitoring.indexer.batch import Batch
from monitoring.indexer.delivery import Delivery, Tally


class Flight(threading.Thread):
    """One batch on its way. A daemon: a request that hangs must not keep a drained process from ending."""

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
            # Raised again where the flight is settled.
            self.error = error
        finally:
            self.batch.settled.set()

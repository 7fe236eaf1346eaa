"""A consumer between Faust and a simulated broker."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from inflight.settings import Settings
from stream_app.faust_adapter.app import create_app
from stream_app.faust_adapter.consumer import Consumer
from stream_app.runtime.metrics import WorkerMetrics
from stream_app.serving.batch import TP, PartitionBatch
from tests.support.request_records import REQUESTS

A, B = TP(REQUESTS, 0), TP(REQUESTS, 1)
DEADLINE = 20.0


class Scheduler:
    def __init__(self) -> None:
        self.batch_limit = 4_096
        self.bugs: SimpleQueue[str] = SimpleQueue()
        self.on_bug = self.bugs.put

    async def submit(self, event: Any) -> None:
        raise AssertionError("no stream runs here")


class Bench:
    """A consumer whose poller is never started: the test acts as the broker."""

    def __init__(self, home: Path) -> None:
        self.scheduler = Scheduler()
        self.metrics = WorkerMetrics()
        settings = Settings(
            _env_file=None,
            home=home,
            kafka_bootstrap_servers="127.0.0.1:1",
            worker_max_batch_records=10,
            worker_buffer_bytes=10_000,
            worker_max_in_flight_batches=4,
        )
        self.app = create_app(settings, self.scheduler, self.metrics)  # type: ignore[arg-type]
        self.revoked: Callable[[], Coroutine[Any, Any, None]] | None = None
        self.consumer: Consumer = self.app.transport.create_consumer(
            callback=self._nothing, on_partitions_revoked=self._revoked, on_partitions_assigned=self._nothing
        )

    async def _nothing(self, *_: Any) -> None:
        pass

    async def _revoked(self, _: Any) -> None:
        if self.revoked is not None:
            await self.revoked()

    async def assign(self, *tps: TP) -> None:
        await self.consumer._handle_assigned(set(tps))
        # Faust says so when it has handed the partitions to the agents.
        self.app.on_rebalance_end()

    def stop(self) -> None:
        """The app is to stop; Faust, asked to let go of partitions, does what it does then."""
        self.app._consumer = self.consumer
        self.revoked = lambda: self.app._on_partitions_revoked(self.consumer.assignment())
        self.app._stopped.set()

    async def revoke(self, *tps: TP, lost: bool = False) -> dict[TP, int]:
        return await self.consumer._handle_revoked(set(tps), lost=lost)

    def fetched(self, *batches: PartitionBatch) -> None:
        for batch in batches:
            self.consumer.poller._buffer.append(batch)

    async def taken(self, timeout: float = 0.01) -> list[Any]:
        return [message async for _, message in self.consumer.getmany(timeout)]

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    @property
    def buffered(self) -> int:
        return self.consumer.poller.buffered_bytes

"""The watchdog: a worker that does not move any more ends itself. Supervisors restart processes, not agents."""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

from confluent_kafka import KafkaException

from stream_app.kafka.publisher import Publisher
from stream_app.runtime.metrics import WorkerMetrics
from stream_app.runtime.scheduler import BatchScheduler, exit_process

TICK_SECONDS = 1.0
REBALANCE_SECONDS = 300.0
"""Beyond the limit, so long a rebalance may take: it waits for a drain, and for a broker that is away."""


class Watch:
    """Looks every second, keeps the gauges, and exits where nothing moved for `stuck_after` seconds although it should.

    Ways to be stuck: a slice that nobody finishes, a consumer thread that does not poll, partitions that are assigned
    but not fetched or not handed out, and a rebalance that does not end. While outputs wait for a broker that is away,
    the producer's own time-out decides.
    """

    def __init__(
        self,
        app: Any,
        lane: BatchScheduler,
        publisher: Publisher,
        metrics: WorkerMetrics,
        stuck_after: float,
        exit_with: Callable[[str], None] = exit_process,
    ) -> None:
        self._app = app
        self._lane = lane
        self._publisher = publisher
        self._metrics = metrics
        self._limit = stuck_after
        self._exit_with = exit_with
        self._behind_since: float | None = None
        self._rebalancing_since: float | None = None
        self._asked_at = monotonic()

    async def run(self) -> None:
        """Look until the app stops."""
        self._metrics.assigned.set_function(lambda: len(self._app.consumer.assignment()))
        while not self._app.should_stop:
            await asyncio.sleep(TICK_SECONDS)
            self._look()
            if monotonic() - self._asked_at > self._limit / 10:
                self._asked_at = monotonic()
                await self._ask()

    def _look(self) -> None:
        consumer, metrics = self._app.consumer, self._metrics
        oldest = consumer.tracker.oldest()
        metrics.slices_in_flight.set(self._lane.in_flight)
        metrics.buffer_bytes.set(consumer.pump.buffered_bytes)
        metrics.unacknowledged.set(self._publisher.unacknowledged())
        metrics.oldest_slice_seconds.set(oldest[2] if oldest is not None else 0)
        if oldest is not None and oldest[2] > self._limit and not self._publisher.unacknowledged():
            self._exit_with(f"{oldest[0]} is stuck at offset {oldest[1]} for {oldest[2]:.0f} s")
        if not self._app.rebalancing:
            self._rebalancing_since = None
            if monotonic() - consumer.pump.last_poll > self._limit:
                self._exit_with(f"the consumer thread has not polled for {self._limit:.0f} s")
            return
        self._rebalancing_since = self._rebalancing_since or monotonic()
        if monotonic() - self._rebalancing_since > self._limit + REBALANCE_SECONDS:
            self._exit_with(f"a rebalance has not ended for {monotonic() - self._rebalancing_since:.0f} s")

    async def _ask(self) -> None:
        """Ask the broker whether records wait that nobody fetches."""
        consumer = self._app.consumer
        idle = not self._lane.in_flight and not self._app.rebalancing
        try:
            # What is fetched and not handed out waits as well as what is not fetched.
            behind = await consumer.behind() if idle else 0
        except KafkaException:
            behind = 0
        if not behind:
            self._behind_since = None
            return
        if self._behind_since is None:
            self._behind_since = monotonic()
        stuck_for = monotonic() - max(self._behind_since, self._lane.last_progress)
        if stuck_for > self._limit:
            self._exit_with(f"{behind} requests wait in the assigned partitions, and none came for {stuck_for:.0f} s")

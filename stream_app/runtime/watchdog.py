"""The watchdog: ends a worker that makes no progress. Supervisors restart processes, not agents."""

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
"""Time that a rebalance may take beyond the stall timeout: it waits for a drain, and for an unreachable broker."""


class Watchdog:
    """Checks progress every second, updates the gauges, and ends a worker that has stalled for `stall_timeout` seconds.

    A worker has stalled if its oldest batch is not finished, its consumer thread does not poll, requests of assigned
    partitions are not fetched or not handed out, or a rebalance does not end. While outputs wait for an unreachable
    broker, the producer's own delivery timeout decides.
    """

    def __init__(
        self,
        app: Any,
        scheduler: BatchScheduler,
        publisher: Publisher,
        metrics: WorkerMetrics,
        stall_timeout: float,
        exit_with: Callable[[str], None] = exit_process,
    ) -> None:
        self._app = app
        self._scheduler = scheduler
        self._publisher = publisher
        self._metrics = metrics
        self._limit = stall_timeout
        self._exit_with = exit_with
        self._behind_since: float | None = None
        self._rebalancing_since: float | None = None
        self._lag_checked_at = monotonic()

    async def run(self) -> None:
        """Check until the app stops."""
        self._metrics.assigned.set_function(lambda: len(self._app.consumer.assignment()))
        while not self._app.should_stop:
            await asyncio.sleep(TICK_SECONDS)
            self._check_progress()
            if monotonic() - self._lag_checked_at > self._limit / 10:
                self._lag_checked_at = monotonic()
                await self._check_lag()

    def _check_progress(self) -> None:
        consumer, metrics = self._app.consumer, self._metrics
        oldest = consumer.tracker.oldest()
        metrics.in_flight_batches.set(self._scheduler.in_flight)
        metrics.buffer_bytes.set(consumer.poller.buffered_bytes)
        metrics.unacknowledged.set(self._publisher.unacknowledged())
        metrics.oldest_batch_seconds.set(oldest[2] if oldest is not None else 0)
        if oldest is not None and oldest[2] > self._limit and not self._publisher.unacknowledged():
            self._exit_with(f"{oldest[0]} is stuck at offset {oldest[1]} for {oldest[2]:.0f} s")
        if not self._app.rebalancing:
            self._rebalancing_since = None
            if monotonic() - consumer.poller.last_poll > self._limit:
                self._exit_with(f"the consumer thread has not polled for {self._limit:.0f} s")
            return
        self._rebalancing_since = self._rebalancing_since or monotonic()
        if monotonic() - self._rebalancing_since > self._limit + REBALANCE_SECONDS:
            self._exit_with(f"a rebalance has not ended for {monotonic() - self._rebalancing_since:.0f} s")

    async def _check_lag(self) -> None:
        """Ask the broker whether an idle worker leaves requests waiting."""
        consumer = self._app.consumer
        idle = not self._scheduler.in_flight and not self._app.rebalancing
        try:
            # Includes requests that are fetched but not handed out.
            behind = await consumer.behind() if idle else 0
        except KafkaException:
            behind = 0
        if not behind:
            self._behind_since = None
            return
        if self._behind_since is None:
            self._behind_since = monotonic()
        idle_for = monotonic() - max(self._behind_since, self._scheduler.last_progress)
        if idle_for > self._limit:
            self._exit_with(f"{behind} requests wait in the assigned partitions, and none came for {idle_for:.0f} s")

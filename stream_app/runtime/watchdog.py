"""The watchdog: ends a worker that makes no progress. Supervisors restart processes, not agents."""

import asyncio
import threading
import time
from collections.abc import Callable
from time import monotonic
from typing import Any

from confluent_kafka import KafkaException

from stream_app.kafka.publisher import Publisher
from stream_app.runtime.metrics import WorkerMetrics
from stream_app.runtime.scheduler import BatchScheduler, exit_process

TICK_SECONDS = 1.0
REBALANCE_SECONDS = 120.0
"""Minimum time allowed for a rebalance: each member drains, then commits, before the next step."""
STOP_SECONDS = 90.0
"""Minimum time allowed for a stop: it drains, commits and leaves the group."""


class Watchdog:
    """Checks progress every second, updates the gauges, and ends a worker that has stalled for `stall_timeout` seconds.

    One clock decides. It runs while there is work and the broker responds, and restarts at each progress. Work is:
    uncommitted requests, batches in flight, and a rebalance. So it does not matter what holds a request up: librdkafka,
    Faust, the scoring thread, or the producer.

    Also detected: one stuck batch while others move on, a consumer thread that does not poll, a publisher thread that
    has ended, a broker that does not respond for `broker_timeout` seconds, and an event loop or a stop that hangs.
    """

    def __init__(
        self,
        app: Any,
        scheduler: BatchScheduler,
        publisher: Publisher,
        metrics: WorkerMetrics,
        stall_timeout: float,
        exit_with: Callable[[str], None] = exit_process,
        *,
        broker_timeout: float = float("inf"),
    ) -> None:
        self._app = app
        self._scheduler = scheduler
        self._publisher = publisher
        self._metrics = metrics
        self._limit = stall_timeout
        self._exit_with = exit_with
        self._broker_timeout = broker_timeout
        self._behind = 0
        # Seconds of the broker's past outages, and the start of the first query that it did not answer in this one.
        self._outages = 0.0
        self._unreachable_since: float | None = None
        self._progress: tuple[Any, ...] = ()
        self._moved_at = self._clock()
        self._oldest: tuple[Any, int] | None = None
        self._oldest_since = self._moved_at
        self._checks = 0

    async def run(self) -> None:
        """Check until the app stops; a thread watches until the process ends."""
        self._metrics.assigned.set_function(lambda: len(self._app.consumer.assignment()))
        threading.Thread(target=self._watch_event_loop, name="inflight-watchdog", daemon=True).start()
        queried_at, query = monotonic(), None
        while not self._app.should_stop:
            await asyncio.sleep(TICK_SECONDS)
            self._check_progress()
            if query is not None and query.done():
                query.result()
                query = None
            # Not awaited: a consumer thread that hangs never answers, and has to be detected.
            if query is None and monotonic() - queried_at > self._limit / 10:
                queried_at, query = monotonic(), asyncio.create_task(self._query_lag())
        if query is not None:
            query.cancel()

    def _clock(self) -> float:
        """Monotonic seconds, without those in which the broker was unreachable."""
        now = monotonic()
        return now - self._outages - (now - self._unreachable_since if self._unreachable_since is not None else 0.0)

    def _check_progress(self) -> None:
        self._checks += 1
        consumer, metrics = self._app.consumer, self._metrics
        oldest = consumer.tracker.oldest()
        metrics.in_flight_batches.set(self._scheduler.in_flight)
        metrics.buffer_bytes.set(consumer.poller.buffered_bytes)
        metrics.unacknowledged.set(self._publisher.unacknowledged())
        metrics.oldest_batch_seconds.set(oldest[2] if oldest is not None else 0)
        reason = self._failed_part() or self._stuck_batch(oldest) or self._stall()
        if reason is not None:
            self._exit_with(reason)

    def _failed_part(self) -> str | None:
        """A thread or the broker that failed; None if there is none. Outages of the broker count here."""
        if self._publisher.failure is not None:
            return f"the publisher's thread has ended: {type(self._publisher.failure).__name__}"
        poller = self._app.consumer.poller
        # In a rebalance's callback the thread waits for the batches in flight, in a call for the broker.
        waits = self._app.rebalancing or poller.is_in_call
        limit = max(self._limit, REBALANCE_SECONDS) if waits else self._limit
        if monotonic() - poller.last_poll > limit:
            return f"the consumer thread has not polled for {limit:.0f} s"
        if self._unreachable_since is not None and monotonic() - self._unreachable_since > self._broker_timeout:
            return f"the broker has not responded for {self._broker_timeout:.0f} s"
        return None

    def _stuck_batch(self, oldest: tuple[Any, int, float] | None) -> str | None:
        """The oldest batch if it is not finished in time, even while others are."""
        now, head = self._clock(), oldest[:2] if oldest is not None else None
        if head != self._oldest:
            self._oldest, self._oldest_since = head, now
        elif oldest is not None and (seconds := min(oldest[2], now - self._oldest_since)) > self._limit:
            return f"{oldest[0]} is stuck at offset {oldest[1]} for {seconds:.0f} s"
        return None

    def _stall(self) -> str | None:
        """The work that waits while nothing moves."""
        now, scheduler, rebalancing = self._clock(), self._scheduler, self._app.rebalancing
        has_work = self._behind or scheduler.in_flight or rebalancing
        # A rebalance that has ended, and a batch that is begun, are progress, too.
        progress = scheduler.last_progress, rebalancing, self._oldest
        if not has_work or progress != self._progress:
            self._progress, self._moved_at = progress, now
        idle = now - self._moved_at
        if idle <= (max(self._limit, REBALANCE_SECONDS) if rebalancing else self._limit):
            return None
        if rebalancing:
            return f"a rebalance has not ended for {idle:.0f} s"
        return (
            f"{self._behind} requests wait in the assigned partitions, {scheduler.in_flight} batches are in flight, "
            f"{self._publisher.unacknowledged()} outputs are unacknowledged, and nothing moved for {idle:.0f} s"
        )

    async def _query_lag(self) -> None:
        """Ask the broker how many requests are uncommitted, including those that are fetched."""
        queried_at = monotonic()
        try:
            self._behind = await self._app.consumer.behind()
        except KafkaException:
            if self._unreachable_since is None:
                self._unreachable_since = queried_at
            return
        if self._unreachable_since is not None:
            self._outages += monotonic() - self._unreachable_since
            self._unreachable_since = None

    def _watch_event_loop(self) -> None:
        """End the process if the event loop hangs, or the stop does not end. Runs in a thread of its own."""
        seen, still, limit = -1, 0.0, max(self._limit, STOP_SECONDS)
        # Counted, not measured: a process that was paused as a whole has missed nothing.
        while still <= limit:
            seen, before = self._checks, seen
            time.sleep(TICK_SECONDS)
            still = still + TICK_SECONDS if seen == before else 0.0
        self._exit_with(f"the event loop, or the stop, has hung for {still:.0f} s")

"""The lane from fetched slices to acknowledged outputs: scored off the event loop, several slices in flight."""

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from time import monotonic
from typing import Any, Protocol

from confluent_kafka import KafkaError

from machine_learning_engineering.core.threads import cap_numeric_threads
from stream_app.kafka.publisher import Publisher
from stream_app.runtime.metrics import WorkerMetrics
from stream_app.serving.scorer import Scored, Scorer

logger = logging.getLogger(__name__)

EXIT_BUG = 70
# A round of a slow model takes about so long: so the slices in flight, eight by default, are done before a drain ends.
ROUND_SECONDS = 2.0


class BatchEvent(Protocol):
    """A Faust event whose value is a slice."""

    value: Any

    def ack(self) -> bool:
        """The slice may be committed."""


def exit_process(reason: str) -> None:
    """End the process at once: nothing unfinished is acknowledged, so whoever takes over scores it again."""
    logger.critical("%s; exiting, the unfinished slices will be scored again", reason)
    logging.shutdown()
    os._exit(EXIT_BUG)


class BatchScheduler:
    """Scores the slices that wait, all of them in one round, as soon as the scoring thread is free.

    At low load a round holds one request; at high load rounds grow by themselves. While a round is scored, the outputs
    of earlier ones are on their way to the broker.

    A round holds at most `records_now`. That begins at one and at most doubles with each full round, up to
    `round_records` or what `ROUND_SECONDS` allow; a longer round takes it down. So slow models move on and commit, too.
    """

    def __init__(
        self,
        scorer: Scorer,
        publisher: Publisher,
        metrics: WorkerMetrics,
        *,
        slices_in_flight: int,
        round_records: int,
        on_bug: Callable[[str], None] = exit_process,
    ) -> None:
        self._scorer = scorer
        self._publisher = publisher
        self._metrics = metrics
        self._round_records = round_records
        self.records_now = 1
        self.on_bug = on_bug
        self._slots = asyncio.Semaphore(slices_in_flight)
        self._waiting: list[BatchEvent] = []
        self._scoring: asyncio.Task[None] | None = None
        # One thread: the slices of a partition are published in order, and numeric libraries get one core.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inflight-score", initializer=cap_numeric_threads)
        self.in_flight = 0
        self.last_progress = monotonic()

    async def put(self, event: BatchEvent) -> None:
        """Take a slice; waits while `slices_in_flight` are on their way. That is the backpressure on the stream."""
        await self._slots.acquire()
        self.in_flight += 1
        self._waiting.append(event)
        if self._scoring is None or self._scoring.done():
            self._scoring = asyncio.create_task(self._score_waiting())

    async def _score_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                taken = self._next_round()
                seconds = await loop.run_in_executor(self._thread, self._round, taken, loop)
                self._pace(sum(len(event.value.records) for event in taken), seconds)
                self.last_progress = monotonic()
        except Exception:
            logger.exception("scoring failed on what no request may cause")
            self.on_bug("bug in the worker")

    def _next_round(self) -> list[BatchEvent]:
        """At least one slice; more for as long as they hold at most `records_now` together."""
        count, records = 0, 0
        for event in self._waiting:
            records += len(event.value.records)
            if count and records > self.records_now:
                break
            count += 1
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    def _pace(self, records: int, seconds: float) -> None:
        in_time = records * ROUND_SECONDS / max(seconds, 1e-9)
        if seconds > ROUND_SECONDS:
            self.records_now = max(1, int(in_time))
        # What a round that was not full took says little of a full one.
        elif 2 * records > self.records_now:
            more = min(2 * self.records_now, ceil(in_time), self._round_records)
            self.records_now = max(self.records_now, more)

    def _round(self, taken: list[BatchEvent], loop: asyncio.AbstractEventLoop) -> float:
        """Score and publish; returns the seconds that scoring took. (In the scoring thread.)"""
        started = monotonic()
        scored = self._scorer.score([event.value for event in taken])
        self._metrics.batch_records.observe(sum(len(event.value.records) for event in taken))
        seconds = monotonic() - started
        self._metrics.score_seconds.observe(seconds)
        for event, of_slice in zip(taken, scored, strict=True):
            self._publish(event, of_slice, loop)
        return seconds

    def _publish(self, event: BatchEvent, scored: Scored, loop: asyncio.AbstractEventLoop) -> None:
        published = monotonic()

        def done(error: KafkaError | None) -> None:
            # In the thread of the delivery reports.
            loop.call_soon_threadsafe(self._finished, event, scored, published, error)

        # Answers stand in the partition of their requests, in the order of these.
        self._publisher.publish(scored.outputs, scored.slice.tp.partition, done)

    def _finished(self, event: BatchEvent, scored: Scored, published: float, error: KafkaError | None) -> None:
        if error is not None:
            self.on_bug(f"an output was not accepted by the broker: {error}")
            return
        event.ack()
        self.in_flight -= 1
        self._slots.release()
        self.last_progress = monotonic()
        metrics = self._metrics
        metrics.publish_seconds.observe(monotonic() - published)
        metrics.completed.inc(scored.completed)
        metrics.failed.inc(scored.failed)
        metrics.dead_letters.inc(scored.dead_letters)

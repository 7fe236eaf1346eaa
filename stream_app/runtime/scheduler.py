"""Schedules partition batches for scoring, off the event loop, and publishes their outputs."""

import asyncio
import faulthandler
import logging
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import ceil
from time import monotonic
from typing import Any, Protocol

from confluent_kafka import KafkaError

from machine_learning_engineering.core.faults import MachineFaultError
from machine_learning_engineering.core.threads import cap_numeric_threads
from stream_app.kafka.publisher import Publisher
from stream_app.kafka.replier import Replier
from stream_app.runtime.breaker import Breaker, BreakerOpenError
from stream_app.runtime.metrics import WorkerMetrics
from stream_app.serving.outcomes import ScoredBatch
from stream_app.serving.scorer import Scorer
from stream_app.shadow.scoring import Shadows

logger = logging.getLogger(__name__)

EXIT_BUG = 70
# Even if something holds the log or the interpreter lock, the process ends this long after the decision.
EXIT_SECONDS = 10
# Scoring batches of a slow model shrink to about this time: so all in-flight batches, eight by default, fit a drain.
TARGET_BATCH_SECONDS = 2.0
# Those of a model with large predictions, too, to about this size of all outputs: eight may be in flight.
TARGET_BATCH_BYTES = 16 * 1024 * 1024


class BatchEvent(Protocol):
    """A Faust event whose value is a `PartitionBatch`."""

    value: Any

    def ack(self) -> bool:
        """Allow the batch's offsets to be committed."""


def exit_process(reason: str) -> None:
    """End the process at once: nothing unfinished is acknowledged, so the next owner scores it again.

    Prints the stacks of all threads to standard error: names of functions and files, no values.
    """
    stderr = sys.__stderr__
    if stderr is not None:
        faulthandler.dump_traceback_later(EXIT_SECONDS, exit=True, file=stderr)
    logger.critical("%s; exiting, the unfinished batches will be scored again", reason)
    if stderr is not None:
        faulthandler.dump_traceback(file=stderr, all_threads=True)
    logging.shutdown()
    os._exit(EXIT_BUG)


class BatchScheduler:
    """Scores all waiting partition batches together, as one scoring batch, as soon as the scoring thread is free.

    At low load a scoring batch holds one request; at high load it grows by itself. While one is scored, the broker
    receives the outputs of earlier ones.

    A scoring batch holds at most `batch_limit` records. The limit starts at one and at most doubles with each full
    batch, up to `max_batch_records` or the number that takes `TARGET_BATCH_SECONDS` or `TARGET_BATCH_BYTES`; a slower
    or larger batch lowers it. So slow models make progress and commit, too, and memory is bounded.

    The scheduler belongs to the event loop; only `Scorer.score` and `Publisher.publish` run in its scoring thread.

    Args:
        max_in_flight: partition batches that may be scored or published at a time.
        max_batch_records: upper bound of `batch_limit`.
        on_bug: called on the event loop with the reason, when scoring or publishing failed; has to end the process.
        breaker: stops the scheduler before it publishes too many failures.
        replier: sends the replies that requests ask for.
        shadows: score requests once more, when their outcomes are published.
    """

    def __init__(
        self,
        scorer: Scorer,
        publisher: Publisher,
        metrics: WorkerMetrics,
        *,
        max_in_flight: int,
        max_batch_records: int,
        on_bug: Callable[[str], None] = exit_process,
        breaker: Breaker | None = None,
        replier: Replier | None = None,
        shadows: Shadows | None = None,
    ) -> None:
        self._scorer = scorer
        self._publisher = publisher
        self._metrics = metrics
        self._max_batch_records = max_batch_records
        self.batch_limit = 1
        self.on_bug = on_bug
        self._breaker = breaker or Breaker(None, 1)
        self._replier = replier
        self._shadows = shadows
        self._slots = asyncio.Semaphore(max_in_flight)
        self._waiting: list[BatchEvent] = []
        self._scoring: asyncio.Task[None] | None = None
        # One thread: the batches of a partition are published in order, and numeric libraries get one core.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inflight-score", initializer=cap_numeric_threads)
        self.in_flight = 0
        self.last_progress = monotonic()

    async def submit(self, event: BatchEvent) -> None:
        """Accept a partition batch; waits while `max_in_flight` are unfinished. That is the stream's backpressure."""
        await self._slots.acquire()
        self.in_flight += 1
        self._waiting.append(event)
        if self._scoring is None or self._scoring.done():
            self._scoring = asyncio.create_task(self._score_waiting())

    async def _score_waiting(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                taken = self._next_batch()
                seconds, size = await loop.run_in_executor(self._thread, self._score, taken, loop)
                self._adjust_batch_limit(sum(len(event.value.records) for event in taken), seconds, size)
                self.last_progress = monotonic()
        except (MachineFaultError, BreakerOpenError) as error:
            self.on_bug(str(error))
        except Exception:
            logger.exception("scoring failed in a way that no request may cause")
            self.on_bug("bug in the worker")

    def _next_batch(self) -> list[BatchEvent]:
        """At least one partition batch; more while they hold at most `batch_limit` records together."""
        count, records = 0, 0
        for event in self._waiting:
            records += len(event.value.records)
            if count and records > self.batch_limit:
                break
            count += 1
        taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    def _adjust_batch_limit(self, records: int, seconds: float, size: int) -> None:
        share = max(seconds / TARGET_BATCH_SECONDS, size / TARGET_BATCH_BYTES)
        within = records / max(share, 1e-9)
        if share > 1:
            self.batch_limit = max(1, int(within))
        # A half-empty batch says little about a full one.
        elif 2 * records > self.batch_limit:
            more = min(2 * self.batch_limit, ceil(within), self._max_batch_records)
            self.batch_limit = max(self.batch_limit, more)

    def cap_threads(self) -> None:
        """Limit the threads of numeric libraries that were loaded since the start, as by a new model."""
        self._thread.submit(cap_numeric_threads)

    def _score(self, taken: list[BatchEvent], loop: asyncio.AbstractEventLoop) -> tuple[float, int]:
        """Score and publish, in the scoring thread; returns the seconds that scoring took, and the outputs' size."""
        started = monotonic()
        scored = self._scorer.score([event.value for event in taken])
        failed = sum(batch.failed + batch.dead_letters for batch in scored)
        self._breaker.check(failed + sum(batch.completed for batch in scored), failed)
        self._metrics.batch_records.observe(sum(len(event.value.records) for event in taken))
        seconds = monotonic() - started
        self._metrics.score_seconds.observe(seconds)
        # A prediction is in the result and in the log record, which repeats the request.
        size = sum(2 * batch.prediction_bytes + batch.batch.size for batch in scored)
        for event, scored_batch in zip(taken, scored, strict=True):
            self._publish(event, scored_batch, loop)
        if self._shadows is not None and (shadowed := self._scorer.take_shadows()):
            self._shadows.offer(shadowed)
        return seconds, size

    def _publish(self, event: BatchEvent, scored: ScoredBatch, loop: asyncio.AbstractEventLoop) -> None:
        published = monotonic()

        def done(error: KafkaError | None) -> None:
            # In the publisher's thread.
            loop.call_soon_threadsafe(self._finished, event, scored, published, error)

        # Outputs go to the partition of their requests, in the order of the requests.
        self._publisher.publish(scored.outputs, scored.batch.tp.partition, done)
        if scored.replies and self._replier is not None:
            self._metrics.replies.inc(len(scored.replies))
            self._replier.send(scored.replies)

    def _finished(self, event: BatchEvent, scored: ScoredBatch, published: float, error: KafkaError | None) -> None:
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
        if scored.tombstones or scored.unknown_fields:
            topic = scored.batch.tp.topic
            metrics.tombstones.labels(topic).inc(scored.tombstones)
            metrics.unknown_fields.labels(topic).inc(scored.unknown_fields)

"""Scores in the shadow: a bounded queue, a thread and a child process for each version, away from what is served."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import NamedTuple

from machine_learning_engineering.core.error_text import describe_origin
from machine_learning_engineering.events.schemas import Error
from machine_learning_engineering.registry.manifest import RegistryError
from stream_app.serving.arms import ShadowBatch, ShadowPlan
from stream_app.shadow import records
from stream_app.shadow.metrics import ShadowMetrics
from stream_app.shadow.process import ShadowEnded, ShadowProcess
from stream_app.shadow.producer import ShadowProducer
from stream_app.shadow.records import ShadowRow, Timing

logger = logging.getLogger(__name__)

MAX_WAITING = 20_000
"""Requests that wait for one shadow; more are dropped."""
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""The same for their features and predictions."""
LATE_SECONDS = 60.0
"""A request that has waited for so long is dropped."""
MAX_DROPPED = 50_000
"""Dropped requests whose records wait to be sent; of more there is no record, and they count as lost."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a child that has ended is started again: twice as many after each time."""
STEADY_SECONDS = 60.0
"""A child that has lived for so long starts again after the first pause."""
IDLE_SECONDS = 0.5

Start = Callable[[ShadowPlan, Callable[[], bool]], ShadowProcess]
"""Opens a plan's version in a child, until it is told to stop."""


class _Waiting(NamedTuple):
    rows: list[ShadowRow]
    timing: Timing
    since: float
    size: int


class Shadow:
    """One version in the shadow. Only `offer` and `stop` are called by others; neither waits.

    Args:
        plan: what is scored.
        start: opens it in a child.
        producer: takes the records.
        metrics: counts outcomes.
    """

    def __init__(self, plan: ShadowPlan, start: Start, producer: ShadowProducer, metrics: ShadowMetrics) -> None:
        self.plan = plan
        self._start, self._producer, self._metrics = start, producer, metrics
        self._queue: deque[_Waiting] = deque()
        self._dropped: deque[_Waiting] = deque()
        self._rows = self._bytes = self._dropped_rows = 0
        self._lock = threading.Lock()
        self._wake_up = threading.Event()
        self._stopping = threading.Event()
        for outcome in ("completed", "failed", "dropped"):
            metrics.records.labels(plan.model, outcome)
        metrics.restarts.labels(plan.model)
        self._pause, self._not_before, self._said = FIRST_PAUSE, 0.0, ""
        self._thread = threading.Thread(target=self._run, name=f"inflight-shadow-{plan.model}", daemon=True)
        self._thread.start()

    def offer(self, batch: ShadowBatch) -> None:
        """Take requests to score; they are dropped where too many wait."""
        rows = records.shadow_rows(batch.rows, batch.predictions)
        size = sum([len(row[-1]) for row in rows]) + sum(map(len, filter(None, batch.predictions)))
        waiting = _Waiting(rows, Timing(batch.completed, batch.seconds), monotonic(), size)
        with self._lock:
            if self._rows + len(rows) > MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
                self._drop(waiting)
            else:
                self._queue.append(waiting)
                self._rows += len(rows)
                self._bytes += size
            self._metrics.waiting.labels(self.plan.model).set(self._rows)
        self._wake_up.set()

    def stop(self, *, wait: bool = False) -> None:
        """End the thread and its child; what waits is dropped without a record."""
        self._stopping.set()
        self._wake_up.set()
        if wait:
            self._thread.join()

    def _drop(self, waiting: _Waiting) -> None:
        """Keep what a record needs. The caller holds the lock."""
        self._metrics.records.labels(self.plan.model, "dropped").inc(len(waiting.rows))
        if self._dropped_rows + len(waiting.rows) > MAX_DROPPED:
            self._metrics.lost.inc(len(waiting.rows))
            return
        self._dropped.append(waiting._replace(rows=[row._replace(features=b"") for row in waiting.rows]))
        self._dropped_rows += len(waiting.rows)

    def _run(self) -> None:
        child: ShadowProcess | None = None
        try:
            while not self._stopping.is_set():
                self._send_dropped()
                child = self._child(child)
                waiting = self._next() if child is not None else None
                if child is None or waiting is None:
                    self._drop_late()
                    self._wake_up.wait(IDLE_SECONDS)
                    self._wake_up.clear()
                    self._producer.poll()
                    continue
                self._score(child, waiting)
        except Exception:
            # Never the worker's problem; the controller sees that no shadow answers.
            logger.exception("the shadow of %s has ended", self.plan.model)
        finally:
            if child is not None:
                child.close()
            self._set_up(False)

    def _child(self, child: ShadowProcess | None) -> ShadowProcess | None:
        """The child, started if it is time; None while there is none."""
        if child is not None and child.pid:
            if not child.has_ended():
                return child
            self._failed(f"ended while it waited: {child.exit()}")
        if monotonic() < self._not_before or self._stopping.is_set():
            return None
        began = monotonic()
        try:
            started = self._start(self.plan, self._stopping.is_set)
        except Exception as error:
            cause = str(error) if isinstance(error, RegistryError | ShadowEnded) else describe_origin(error)
            self._failed(cause)
            return None
        self._began = began
        self._set_up(True)
        logger.info("%s %s answers in the shadow", self.plan.model, self.plan.shadow_version)
        return started

    def _failed(self, cause: str) -> None:
        """Wait before the next start: longer each time, unless the child had been steady."""
        if self._stopping.is_set():
            return
        self._set_up(False)
        now = monotonic()
        if now - getattr(self, "_began", now) > STEADY_SECONDS:
            self._pause = FIRST_PAUSE
        self._not_before = now + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._metrics.restarts.labels(self.plan.model).inc()
        if cause != self._said:
            self._said = cause
            what = "%s %s in the shadow: %s; what is served goes on without it"
            logger.warning(what, self.plan.model, self.plan.shadow_version, cause)

    def _set_up(self, up: bool) -> None:
        self._metrics.up.labels(self.plan.model, self.plan.shadow_version).set(up)
        if not up:
            self._metrics.memory.labels(self.plan.model).set(0)

    def _next(self) -> _Waiting | None:
        self._drop_late()
        with self._lock:
            return self._take() if self._queue else None

    def _take(self) -> _Waiting:
        waiting = self._queue.popleft()
        self._rows -= len(waiting.rows)
        self._bytes -= waiting.size
        self._metrics.waiting.labels(self.plan.model).set(self._rows)
        return waiting

    def _drop_late(self) -> None:
        with self._lock:
            while self._queue and monotonic() - self._queue[0].since > LATE_SECONDS:
                self._drop(self._take())

    def _send_dropped(self) -> None:
        with self._lock:
            taken, self._dropped, self._dropped_rows = self._dropped, deque(), 0
        for waiting in taken:
            self._producer.send(records.dropped(self.plan, waiting.rows, waiting.timing))

    def _score(self, child: ShadowProcess, waiting: _Waiting) -> None:
        rows, timing = waiting.rows, waiting.timing
        predictions: Sequence[bytes] = ()
        try:
            reply = child.ask([row.features for row in rows])
        except ShadowEnded as ended:
            if not ended.by_model:
                return
            # Which of them ended it is unknown; in service, it would have taken all of them with it.
            what = f"model {self.plan.model}: the process of {self.plan.shadow_version} {ended}"
            errors = dict.fromkeys(range(len(rows)), Error("prediction_error", what))
            self._failed(str(ended))
        else:
            memory = child.memory()
            self._metrics.memory.labels(self.plan.model).set(memory)
            timing = timing._replace(shadow_seconds=reply.seconds, memory_bytes=memory or timing.memory_bytes)
            predictions = reply.predictions
            errors = {one.row: records.error_of(one.type, one.message) for one in reply.failures}
            without = {row for row, prediction in enumerate(predictions) if not prediction} - errors.keys()
            errors |= dict.fromkeys(without, records.error_of("", f"model {self.plan.model}: no prediction"))
            predictions = (
                [b"" if row in errors else one for row, one in enumerate(predictions)] if errors else predictions
            )
        self._producer.send(records.completed(self.plan, rows, timing, predictions))
        self._producer.send(records.failed(self.plan, rows, timing, errors))
        count = self._metrics.records
        count.labels(self.plan.model, "completed").inc(len(rows) - len(errors))
        count.labels(self.plan.model, "failed").inc(len(errors))


class Shadows:
    """The shadows of a worker, by plan.

    Args:
        start: opens a plan's version in a child.
        producer: makes the producer of all of them, when the first one begins.
        metrics: counts outcomes.
    """

    def __init__(self, start: Start, producer: Callable[[], ShadowProducer], metrics: ShadowMetrics) -> None:
        self._start, self._make, self._metrics = start, producer, metrics
        self._producer: ShadowProducer | None = None
        self._running: Mapping[ShadowPlan, Shadow] = {}

    def follow(self, plans: Iterable[ShadowPlan]) -> None:
        """Begin what is new, and end what is no longer planned."""
        wanted = set(plans)
        before = self._running
        if wanted == set(before):
            return
        if self._producer is None:
            self._producer = self._make()
        kept = {plan: shadow for plan, shadow in before.items() if plan in wanted}
        for plan, shadow in before.items():
            if plan not in wanted:
                shadow.stop()
        new = {plan: Shadow(plan, self._start, self._producer, self._metrics) for plan in wanted - set(kept)}
        self._running = {**kept, **new}

    def offer(self, batches: Iterable[ShadowBatch]) -> None:
        """Hand over requests whose outcomes are published. Never waits, never raises for a shadow."""
        running = self._running
        for batch in batches:
            shadow = running.get(batch.plan)
            if shadow is None:
                self._metrics.records.labels(batch.plan.model, "dropped").inc(len(batch.rows))
                self._metrics.lost.inc(len(batch.rows))
            else:
                shadow.offer(batch)

    def stop(self) -> None:
        """End all of them and their children."""
        for shadow in self._running.values():
            shadow.stop()
        for shadow in self._running.values():
            shadow.stop(wait=True)
        self._running = {}
        if self._producer is not None:
            self._producer.close()

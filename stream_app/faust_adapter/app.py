"""The Faust topology, one agent over all requests, and how it runs. A reader who skips Faust skips this folder."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import faust
from faust import streams

from machine_learning_engineering.declaration.schema import SourceDeclaration
from machine_learning_engineering.events.topics import REQUESTS
from machine_learning_engineering.kafka.client import consumer_options, topic_name
from stream_app.faust_adapter.driver import BatchApp, TransportOptions
from stream_app.runtime.metrics import WorkerMetrics
from stream_app.runtime.scheduler import BatchScheduler
from stream_app.serving.batch import PartitionBatch
from stream_app.settings import WorkerSettings

GROUP = "inflight-worker"


class BatchSchema(faust.Schema):  # type: ignore[misc]
    """Passes partition batches through undecoded: Faust acknowledges a message that it fails to decode."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> None:
        """Return None: a batch has no key."""

    def loads_value(self, app: Any, message: Any, **_: Any) -> PartitionBatch:
        """Return the batch itself."""
        value: PartitionBatch = message.value
        return value


def check_faust() -> None:
    """Refuse a Faust that fell back to pure Python: it counts messages of an old assignment as processed.

    Raises:
        RuntimeError: Faust's Cython stream iterator is not in use.
    """
    if streams._CStreamIterator is None:
        raise RuntimeError(
            "Faust runs without its Cython stream iterator: unset NO_CYTHON and install faust-streaming from a wheel"
        )


def create_app(
    settings: WorkerSettings,
    scheduler: BatchScheduler,
    metrics: WorkerMetrics,
    sources: Collection[SourceDeclaration] = (),
) -> BatchApp:
    """Build the app that submits every batch of requests to the scheduler.

    Args:
        sources: topics of others, which are read beside that of requests, by the same group.
    """
    options = TransportOptions(
        consumer={
            **consumer_options(settings, GROUP),
            # Faust drops everything on a rebalance, so only an eager strategy is correct.
            "partition.assignment.strategy": "roundrobin",
            "session.timeout.ms": int(settings.kafka_session_timeout * 1000),
            "heartbeat.interval.ms": int(settings.kafka_session_timeout * 1000 / 4),
            "max.poll.interval.ms": 300_000,
            "queued.max.messages.kbytes": 16 * 1024,
            "fetch.queue.backoff.ms": 10,
            "fetch.error.backoff.ms": 50,
        },
        max_batch_records=settings.worker_max_batch_records,
        buffer_bytes=settings.worker_buffer_bytes,
        # As many wait for the scheduler as it holds, so that it never waits for Faust.
        max_in_flight=2 * settings.worker_max_in_flight_batches,
        batch_limit=lambda: scheduler.batch_limit,
        on_failed=scheduler.on_bug,
        idle_pause=settings.kafka_idle_pause,
        on_statistics=metrics.on_statistics,
        on_reset=metrics.on_reset,
        on_unreadable=metrics.on_unreadable,
        sources={source.topic: source.start for source in sources},
    )
    app = BatchApp(
        topic_name(settings, GROUP),
        options=options,
        # Faust connects to nothing: the addresses are in the options of librdkafka, which alone can read them.
        broker="kafka://",
        broker_commit_interval=settings.worker_commit_interval,
        broker_commit_every=None,
        broker_session_timeout=settings.kafka_session_timeout,
        stream_wait_empty=True,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        store="memory://",
        # Faust creates this folder and leaves it empty: the app has no tables.
        datadir=str(settings.home / "faust"),
    )
    names = (topic_name(settings, REQUESTS), *(source.topic for source in sources))
    requests = app.topic(*names, schema=BatchSchema())

    @app.agent(requests, name="score")
    async def score(stream):  # type: ignore[no-untyped-def]
        # Not Faust but the scheduler acknowledges, when the broker has acknowledged every output of the batch.
        async for event in stream.noack().events():
            await scheduler.submit(event)

    return app


def run_app(app: BatchApp) -> None:
    """Run the app until SIGTERM or SIGINT, then drain. Ends the process by SystemExit."""
    # Faust logs its errors and prints them again, with the values in an exception's text.
    with Path(os.devnull).open("w") as nowhere:
        worker = faust.Worker(app, redirect_stdouts=False, override_logging=False, quiet=True, stderr=nowhere)
        worker.spinner = None
        worker.execute_from_commandline()

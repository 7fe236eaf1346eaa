"""The topology: one agent over one topic. Everything a reader of Faust code expects, in slices."""

from dataclasses import replace

from machine_learning_engineering.events.topics import REQUESTS
from machine_learning_engineering.kafka.client import topic_name
from stream_app.faust_adapter.driver import BatchApp, TransportOptions
from stream_app.faust_adapter.schema import BatchSchema
from stream_app.runtime.scheduler import BatchScheduler
from stream_app.settings import WorkerSettings

GROUP = "inflight-worker"


def create_app(settings: WorkerSettings, lane: BatchScheduler, options: TransportOptions) -> BatchApp:
    """The Faust app that hands every slice of requests to the scoring lane."""
    # As many wait in front of the lane as are in it, so that it never waits for Faust.
    handed_out = 2 * settings.worker_max_in_flight_batches
    app = BatchApp(
        topic_name(settings, GROUP),
        options=replace(
            options, slices_handed_out=handed_out, records_now=lambda: lane.records_now, on_failed=lane.on_bug
        ),
        broker="kafka://" + settings.kafka_bootstrap_servers.split(",")[0],
        broker_commit_interval=settings.worker_commit_interval,
        broker_commit_every=None,
        broker_session_timeout=settings.kafka_session_timeout,
        stream_wait_empty=True,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        store="memory://",
        # Faust makes a folder, in which nothing is kept: this app has no tables.
        datadir=str(settings.home / "faust"),
    )
    requests = app.topic(topic_name(settings, REQUESTS), schema=BatchSchema())

    @app.agent(requests, name="score")
    async def score(stream):  # type: ignore[no-untyped-def]
        # Acknowledged by the lane, when every output of the slice is acknowledged by the broker; not by Faust.
        async for event in stream.noack().events():
            await lane.put(event)

    return app

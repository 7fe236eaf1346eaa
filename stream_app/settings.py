"""Settings of the worker, read from ``INFLIGHT_WORKER_*``."""

from typing import Annotated

from pydantic import Field

from machine_learning_engineering.settings import KernelSettings, Port, PositiveInt, PositiveSeconds


class WorkerSettings(KernelSettings):
    """The worker's settings, with those that every process shares."""

    worker_max_batch_records: PositiveInt = 4_096
    """Maximum number of records of one partition that are scored and acknowledged as a unit."""
    worker_max_in_flight_batches: PositiveInt = 8
    """Maximum number of batches that are scored or published at a time."""
    worker_buffer_bytes: PositiveInt = 64 * 1024 * 1024
    """Fetching pauses while unfinished requests take more memory, in bytes. librdkafka buffers up to 24 MiB more."""
    worker_commit_interval: PositiveSeconds = 0.5
    """Interval at which offsets of finished requests are committed."""
    worker_stall_timeout: PositiveSeconds = 120.0
    """The worker exits if requests wait and nothing makes progress for this time while the broker responds."""
    worker_max_failure_ratio: Annotated[float, Field(ge=0, lt=1)] | None = None
    """The worker exits if a larger share of its last requests fails or becomes dead letters; unset: it never does. What
    would have been published is scored again after the restart."""
    worker_failure_window: PositiveInt = 100
    """Number of requests that `worker_max_failure_ratio` is a share of."""
    worker_reply_topics: tuple[str, ...] = ()
    """Full names of topics that a request's header `kafka_replyTopic` may name (JSON), such as ``["shop-replies"]``;
    `*` stands for any characters. None by default: whoever may send requests could write to them."""
    worker_model_poll_interval: PositiveSeconds = 10.0
    """Interval at which the registry is polled for new champions. A promotion event usually arrives first."""
    worker_shadow_timeout: PositiveSeconds = 30.0
    """Time that the shadow of a rollout has for the requests of one batch; then its process is ended."""
    worker_shadow_memory_bytes: PositiveInt = 2 * 1024 * 1024 * 1024
    """Resident memory of the process of a shadow, in bytes; with more it ends. A rollout's policy may allow less."""
    worker_metrics_port: Port = 9_101
    """Port of the worker's metrics."""

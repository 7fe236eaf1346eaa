"""Settings of the worker, read from ``INFLIGHT_WORKER_*``."""

from machine_learning_engineering.settings import KernelSettings, Port, PositiveInt, PositiveSeconds


class WorkerSettings(KernelSettings):
    """The worker's settings, with those that every process shares."""

    worker_max_batch_records: PositiveInt = 4_096
    """Maximum number of records of one partition that are scored and acknowledged as a unit."""
    worker_max_in_flight_batches: PositiveInt = 8
    worker_buffer_bytes: PositiveInt = 64 * 1024 * 1024
    """Fetching pauses while unanswered requests take more memory than this. Up to 24 MiB that librdkafka has fetched
    ahead come on top."""
    worker_commit_interval: PositiveSeconds = 0.5
    worker_stall_timeout: PositiveSeconds = 120.0
    """The worker exits when a partition with waiting records makes no progress for this time."""
    worker_model_poll_interval: PositiveSeconds = 10.0
    """Interval of a look into the registry for new champions. An event on the stream usually comes first."""
    worker_metrics_port: Port = 9_101

"""The state of the stream at one moment; `inflight top --json` prints it."""

from datetime import datetime

import msgspec

from monitoring.top.sources import Alert


class Process(msgspec.Struct, frozen=True):
    """One metrics endpoint; `problem` is empty if it responds."""

    kind: str
    url: str
    problem: str


class Latency(msgspec.Struct, frozen=True):
    """In seconds; None if nothing was measured."""

    p50: float | None
    p99: float | None


class Model(msgspec.Struct, frozen=True):
    """A model's requests within the window; `versions` are those being served, else those with results."""

    name: str
    versions: list[str]
    completed_per_second: float
    failed_per_second: float
    queue: Latency
    score: Latency
    total: Latency
    requests: float = 0.0
    """Requests with a result, within the window; the next two are among them."""
    prediction_errors: float = 0.0
    slow: float = 0.0
    """Took more than a second."""


class Worker(msgspec.Struct, frozen=True):
    """All workers together; rates are per second.

    `models_refused` are models whose promoted version cannot be opened; `dead_letters` counts those within the window.
    """

    completed_per_second: float
    failed_per_second: float
    dead_letters_per_second: float
    batch_records: float | None
    in_flight_batches: float
    unacknowledged_records: float
    oldest_batch_seconds: float
    partitions: float
    models_refused: list[str]
    dead_letters: float = 0.0


class Lag(msgspec.Struct, frozen=True):
    """Records that a group has not committed, and their change per second within the window.

    `age_seconds` is that of the oldest of them; `stalled_seconds` is how long a partition with such records has stood
    still; `in_use` is false for a group that has never committed an offset and whose process does not respond.
    """

    group: str
    topic: str
    records: float
    change_per_second: float | None
    age_seconds: float = 0.0
    stalled_seconds: float = 0.0
    in_use: bool = True


class DeadLetters(msgspec.Struct, frozen=True):
    """`total` counts since the exporter started."""

    stage: str
    reason: str
    per_second: float
    total: float


class Indexer(msgspec.Struct, frozen=True):
    """All indexers together; rates are per second. The lag is read by the exporter: None without one."""

    documents_per_second: float
    retries_per_second: float
    lag_records: float | None
    in_flight: float


class Drift(msgspec.Struct, frozen=True):
    """A version's last window: the field that differs most, and the drifted fields.

    `consecutive` are those that drifted in two or more consecutive windows.
    """

    model: str
    version: str
    field: str
    psi: float
    drifted: list[str]
    consecutive: list[str] = []


class Quality(msgspec.Struct, frozen=True):
    """A metric of live predictions, its confidence interval, and its value in training. Greater is better."""

    model: str
    version: str
    metric: str
    value: float
    lower: float | None
    upper: float | None
    reference: float | None
    served: bool = True


class Overview(msgspec.Struct, frozen=True):
    """Everything. Sections of unreachable processes are None; `warnings` are sentences, most severe first."""

    at: datetime
    processes: list[Process]
    per_second: float | None
    models: list[Model]
    worker: Worker | None
    lags: list[Lag]
    dead_letters: list[DeadLetters]
    indexer: Indexer | None
    drift: list[Drift]
    quality: list[Quality]
    alerts: list[Alert]
    lag_age_seconds: float | None = None
    """Since the lag was last read from the broker; None without an exporter."""
    warnings: list[str] = []

"""One configuration for every process: environment variables with the prefix ``INFLIGHT_``, or a ``.env`` file."""

import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from machine_learning_engineering.core.model import RedactAction

PositiveSeconds = Annotated[float, Field(gt=0)]
Bytes = Annotated[int, Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65_535)]


class Settings(BaseSettings):
    """Settings of all processes. Sizes are in bytes, durations in seconds; a port of 0 means "any free port"."""

    # What is refused is not quoted: it may be a password.
    model_config = SettingsConfigDict(
        env_prefix="INFLIGHT_", env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    home: Path = Path(".inflight")
    """Folder for everything kept on disk: broker data, model registry, downloaded datasets, logs."""
    production: bool = False
    """Refuse what is acceptable only on one's own machine, such as a plaintext connection to the broker."""
    seed: int = 20_260_101

    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    kafka_options: dict[str, str] = {}
    """Further librdkafka options (JSON), such as ``{"security.protocol": "SASL_SSL"}``; passed to every client."""
    kafka_idle_pause: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Seconds to stop fetching after a while without records. Leave at 0: only for brokers that answer an empty fetch
    at once instead of holding it, as the embedded one does, where every idle consumer would take half a core."""
    topic_prefix: str = ""
    """Put before the name of every topic and consumer group, so that several deployments can share a broker."""
    topic_partitions: Annotated[int, Field(gt=0)] = 4
    topic_replication: Annotated[int, Field(gt=0)] = 1

    elasticsearch_url: str = "http://127.0.0.1:9200"
    elasticsearch_api_key: str | None = None
    elasticsearch_replicas: Annotated[int, Field(ge=0)] = 0
    """Copies of each index beside the first; 1 or more wherever the search node is more than one machine."""
    elasticsearch_retention_days: Annotated[int, Field(ge=0)] = 0
    """The indexer deletes daily indices that are older than so many days; 0 keeps them for ever."""

    kibana_url: str = "http://127.0.0.1:5601"
    """May end in a space: ``https://kibana:5601/s/ml``."""
    kibana_api_key: str | None = None

    max_request_bytes: Annotated[int, Field(gt=0, le=4 * 1024 * 1024)] = 1_000_000
    """A larger request is a dead letter. At most what the topic takes; the log repeats it, and has to fit too."""

    worker_max_batch_records: Annotated[int, Field(gt=0)] = 4_096
    """At most so many records of one partition are scored and acknowledged as one unit."""
    worker_max_in_flight_batches: Annotated[int, Field(gt=0)] = 8
    worker_buffer_bytes: Bytes = 64 * 1024 * 1024
    """Fetching pauses when requests that are not answered yet take so much memory; what librdkafka had fetched ahead by
    then, up to 24 MiB, comes on top."""
    worker_commit_interval: PositiveSeconds = 0.5
    worker_session_timeout: PositiveSeconds = 10.0
    worker_delivery_timeout: PositiveSeconds = 300.0
    """So long worker, indexer and replay wait for a broker that is away, before they give up."""
    producer_delivery_timeout: PositiveSeconds = 60.0
    """A request that is not acknowledged for so long counts as indeterminate in a replay."""
    worker_stall_timeout: PositiveSeconds = 120.0
    """The worker exits when a partition with waiting records makes no progress for so long."""
    worker_model_poll_interval: PositiveSeconds = 10.0
    """A worker looks for new champions in the registry so often; the stream tells it earlier, as a rule."""
    worker_metrics_port: Port = 9_101

    indexer_batch_records: Annotated[int, Field(gt=0)] = 2_000
    indexer_batch_bytes: Bytes = 5 * 1024 * 1024
    indexer_metrics_port: Port = 9_102
    exporter_metrics_port: Port = 9_103

    drift_window_rows: Annotated[int, Field(gt=0)] = 1_000
    """A window of a model's requests is compared with the reference profile when it has so many,"""
    drift_window_seconds: PositiveSeconds = 3_600.0
    """or when its first one was accepted so long ago, if it has `drift_window_min_rows` by then."""
    drift_window_min_rows: Annotated[int, Field(gt=0)] = 200
    drift_significance: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """The chance at most that anything is found drifted in a window that differs from the reference by chance alone."""
    drift_min_psi: Annotated[float, Field(ge=0)] = 0.1
    """A difference has to be at least so large, as a population stability index, to count as drift."""
    drift_rows_per_second: Annotated[float, Field(gt=0)] = 200.0
    """Of each model version so many requests a second are looked at on average, and a minute's worth at once; of more,
    a sample. What is left out is counted in a metric."""
    drift_monitor_metrics_port: Port = 9_104

    label_joiner_batch_records: Annotated[int, Field(gt=0, le=10_000)] = 1_000
    label_match_timeout: PositiveSeconds = 7 * 86_400.0
    """So long a label waits for its request to be in the log; then it is a dead letter."""
    quality_interval: PositiveSeconds = 30.0
    """Live quality is measured at most so often, and only of versions that got labels."""
    quality_max_rows: Annotated[int, Field(gt=1, le=10_000)] = 2_000
    """Live quality is that of the newest labelled answers of a version, at most so many,"""
    quality_max_age: PositiveSeconds = 30 * 86_400.0
    """to requests that were accepted at most so long ago."""
    quality_min_rows: Annotated[int, Field(gt=1)] = 30
    """With fewer nothing is measured."""
    label_joiner_metrics_port: Port = 9_105

    metrics_host: str = "127.0.0.1"

    log_format: Literal["auto", "ecs", "text"] = "auto"
    """Lines of the service log: ECS JSON, or text for people; auto is text on a terminal and ECS elsewhere."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_error_values: bool = False
    """Write the texts of all exceptions into the service log. They may quote values: for one's own machine."""
    log_redact: dict[str, dict[str, RedactAction]] = {}
    """What the prediction log does not hold as it was sent, by model and feature, such as
    ``{"titanic": {"name": "hash", "ticket": "drop"}}``; ``*`` is every other model, or every other feature."""
    log_redact_key: SecretStr | None = None
    """The secret, of 16 characters or more, that values are hashed with: the same value gives the same token."""

    train_data_source: str = "dataset"
    """What `inflight train` reads: ``dataset``, a file, a folder, ``log``, ``elasticsearch`` or ``log:LABELS_FILE``."""
    train_data_target: Path | None = None
    """Folder of the data layers of trainings; ``data-layers`` in the home by default."""
    train_models_target: Path | None = None
    """Folder of every model that a training fitted; ``history`` in the home by default."""
    train_sota_target: Path | None = None
    """The registry that takes the best model of a training; the one that workers open by default."""
    train_log_target: Path | None = None
    """The file that tells of every training; ``training-log.jsonl`` in the home by default."""
    train_n_models: Annotated[int, Field(gt=0)] | None = None
    """At most so many configurations of estimators are tried in a training; each model's own numbers by default."""
    train_threads: Annotated[int, Field(gt=0)] = 1
    """Threads of OpenMP and BLAS while candidates are compared. More help only on cores that nobody else uses: on busy
    ones they wait for each other."""

    @property
    def registry_dir(self) -> Path:
        return self.home / "registry"

    @property
    def data_dir(self) -> Path:
        return self.home / "data"

    @property
    def layers_dir(self) -> Path:
        return self.train_data_target or self.home / "data-layers"

    @property
    def history_dir(self) -> Path:
        return self.train_models_target or self.home / "history"

    @property
    def sota_dir(self) -> Path:
        return self.train_sota_target or self.registry_dir

    @property
    def training_log(self) -> Path:
        return self.train_log_target or self.home / "training-log.jsonl"

    @property
    def prediction_log(self) -> Path:
        return self.home / "predictions.sqlite"

    @model_validator(mode="after")
    def _no_plaintext_in_production(self) -> Self:
        protocol = self.kafka_options.get("security.protocol", "PLAINTEXT").upper()
        if self.production and protocol in ("PLAINTEXT", "SASL_PLAINTEXT"):
            raise ValueError(
                f"INFLIGHT_PRODUCTION is set and the Kafka security.protocol is {protocol}: set INFLIGHT_KAFKA_OPTIONS "
                'to {"security.protocol": "SASL_SSL", ...} or "SSL", or unset INFLIGHT_PRODUCTION'
            )
        return self

    @model_validator(mode="after")
    def _a_key_where_values_are_hashed(self) -> Self:
        key = self.log_redact_key
        if key is not None and len(key.get_secret_value()) < 16:
            raise ValueError("INFLIGHT_LOG_REDACT_KEY has to have 16 characters or more")
        if key is None and any("hash" in rules.values() for rules in self.log_redact.values()):
            raise ValueError("INFLIGHT_LOG_REDACT hashes values: set INFLIGHT_LOG_REDACT_KEY to a secret of your own")
        return self


def redact_url(url: str) -> str:
    """A URL as it may be logged: without the name and password that may be in it."""
    return re.sub(r"(?<=://)[^/]*@", "", url)


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()

"""Settings of each monitoring process, and of Elasticsearch and Kibana."""

from pathlib import Path
from typing import Annotated, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, FilePath, SecretStr, model_validator

from machine_learning_engineering.settings import KernelSettings, Port, PositiveInt, PositiveSeconds

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class ElasticsearchSettings(KernelSettings):
    """Access to Elasticsearch, and the size of bulk requests."""

    elasticsearch_url: str = "http://127.0.0.1:9200"
    """Where Elasticsearch is. With ``https://user:password@host`` the password is sent instead of an API key."""
    elasticsearch_api_key: SecretStr | None = None
    """API key of Elasticsearch."""
    elasticsearch_ca_certs: FilePath | None = None
    """PEM file with the certificates of the authorities that sign Elasticsearch's; by default the well-known ones."""
    elasticsearch_replicas: Annotated[int, Field(ge=0)] = 0
    """Replicas of each index; at least 1 wherever the search cluster has more than one machine."""
    elasticsearch_batch_records: PositiveInt = 2_000
    """Maximum number of documents in a bulk request."""
    elasticsearch_batch_bytes: PositiveInt = 5 * 1024 * 1024
    """Target size of a bulk request."""

    @model_validator(mode="after")
    def _require_encryption_in_production(self) -> Self:
        if self.production:
            _require_https("INFLIGHT_ELASTICSEARCH_URL", self.elasticsearch_url, self.elasticsearch_api_key)
        return self


class KibanaSettings(KernelSettings):
    """Access to Kibana."""

    kibana_url: str = "http://127.0.0.1:5601"
    """May end in a space: ``https://kibana:5601/s/ml``."""
    kibana_api_key: SecretStr | None = None
    """API key of Kibana."""
    kibana_ca_certs: FilePath | None = None
    """PEM file with the certificates of the authorities that sign Kibana's; by default the well-known ones."""

    @model_validator(mode="after")
    def _require_encryption_of_kibana_in_production(self) -> Self:
        if self.production:
            _require_https("INFLIGHT_KIBANA_URL", self.kibana_url, self.kibana_api_key)
        return self


class IndexerSettings(ElasticsearchSettings):
    """Settings of `inflight indexer`."""

    elasticsearch_retention_days: Annotated[int, Field(ge=0)] = 365
    """The indexer deletes indices whose last day is longer ago than this; 0 keeps them forever. Each is a shard, of
    which a node takes 1,000 by default."""
    indexer_metrics_port: Port = 9_102
    """Port of the indexer's metrics."""


class ExporterSettings(KernelSettings):
    """Settings of `inflight exporter`."""

    exporter_metrics_port: Port = 9_103
    """Port of the exporter's metrics: those of the predictions, too."""


class DriftMonitorSettings(KernelSettings):
    """Settings of `inflight drift-monitor`.

    A window of requests closes when it has `drift_window_rows` rows. It also closes when its first request is
    `drift_window_seconds` old, provided that it has `drift_window_min_rows` rows by then.
    """

    drift_window_rows: PositiveInt = 1_000
    """Rows of a full window."""
    drift_window_seconds: PositiveSeconds = 3_600.0
    """Maximum age of a window's first request."""
    drift_window_min_rows: PositiveInt = 200
    """Minimum number of rows of a window that closes by age."""
    drift_significance: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Family-wise error rate of a window: the maximum probability that any column is reported as drifted although all
    follow the reference."""
    drift_min_psi: Annotated[float, Field(ge=0)] = 0.1
    """Minimum population stability index of a difference that counts as drift."""
    drift_rows_per_second: Annotated[float, Field(gt=0)] = 200.0
    """Maximum mean rate of requests measured per model version, with bursts of one minute's worth. Of more, a sample is
    measured; a metric counts the rest."""
    drift_monitor_metrics_port: Port = 9_104
    """Port of the drift monitor's metrics."""


class LabelJoinerSettings(ElasticsearchSettings):
    """Settings of `inflight label-joiner`, which also measures the quality of served models.

    Quality is that of the newest labelled predictions of a version: at most `quality_max_rows` rows, none older than
    `quality_max_age`.
    """

    label_joiner_batch_records: Annotated[int, Field(gt=0, le=10_000)] = 1_000
    """Maximum number of labels that are joined together."""
    label_match_timeout: PositiveSeconds = 7 * 86_400.0
    """Time that a label waits for its request to appear in the log before it becomes a dead letter."""
    quality_interval: PositiveSeconds = 30.0
    """Minimum time between two measurements of quality. Only versions with new labels are measured."""
    quality_max_rows: Annotated[int, Field(gt=1, le=10_000)] = 2_000
    """Maximum number of rows of a measurement."""
    quality_max_age: PositiveSeconds = 30 * 86_400.0
    """Maximum age of a request in a measurement."""
    quality_min_rows: Annotated[int, Field(gt=1)] = 30
    """Minimum number of rows of a measurement."""
    label_joiner_metrics_port: Port = 9_105
    """Port of the label joiner's metrics."""


class FeatureIngestSettings(KernelSettings):
    """Settings of `inflight features follow`."""

    features_metrics_port: Port = 9_106
    """Port of the metrics of `inflight features follow`."""


class RolloutControllerSettings(KernelSettings):
    """Settings of `inflight rollout-controller`."""

    rollout_interval: PositiveSeconds = 5.0
    """Seconds between two looks at the open rollouts."""
    rollout_controller_metrics_port: Port = 9_109
    """Port of its metrics; 0 takes any free one."""


class RetrainerSettings(KernelSettings):
    """Settings of `inflight retrainer` and of `inflight retrain --due`."""

    retrain_log: str = "elasticsearch"
    """Prediction log whose labelled rows a due retraining is trained on: ``elasticsearch``, ``archive``, or the path of
    a SQLite log."""
    retrainer_interval: PositiveSeconds = 60.0
    """Seconds between two looks at what is due. Events about a model are looked at at once."""
    retrainer_metrics_port: Port = 9_110
    """Port of the retrainer's metrics."""


class ArchiveSettings(KernelSettings):
    """Settings of `inflight archive`."""

    archive_url: str | None = None
    """Database of the archive: ``postgresql://USER:PASSWORD@HOST/DATABASE``, or ``sqlite:///PATH``; by default the file
    ``archive.sqlite`` in `home`."""
    archive_retention_days: Annotated[int, Field(ge=0, le=100_000)] = 365
    """Rows that are older are deleted; 0 keeps them forever."""
    archive_batch_records: PositiveInt = 2_000
    """Maximum number of records in a transaction."""
    archive_batch_bytes: PositiveInt = 8 * 1024 * 1024
    """Target size of the records in a transaction."""
    archive_timeout: PositiveSeconds = 15.0
    """A transaction that takes longer is given up, and tried again."""
    archive_metrics_port: Port = 9_108
    """Port of the archive's metrics."""

    @property
    def archive_file(self) -> Path:
        return self.home.absolute() / "archive.sqlite"

    @property
    def archive_address(self) -> str:
        return self.archive_url or f"sqlite:///{self.archive_file}"

    @model_validator(mode="after")
    def _require_encryption_of_archive_in_production(self) -> Self:
        if self.production and self.archive_url:
            _require_tls_of_database(self.archive_url)
        return self


class MonitoringSettings(
    KibanaSettings,
    IndexerSettings,
    ExporterSettings,
    DriftMonitorSettings,
    LabelJoinerSettings,
    FeatureIngestSettings,
    RolloutControllerSettings,
    RetrainerSettings,
    ArchiveSettings,
):
    """Settings of all monitoring processes."""


def _require_https(name: str, url: str, key: SecretStr | None) -> None:
    """Reject an address that would get a secret, or data of another machine, without encryption."""
    try:
        parts = urlsplit(url)
        secret = key is not None or "@" in parts.netloc
        open_to_readers = parts.scheme.lower() != "https" and (secret or parts.hostname not in _LOOPBACK)
    except ValueError:
        open_to_readers = True
    if open_to_readers:
        what = "a secret" if key is not None or "@" in url else "data"
        raise ValueError(
            f"INFLIGHT_PRODUCTION is set and {name} would send {what} without encryption: use https://, "
            "with the certificates of a private authority in "
            f"{name.removesuffix('_URL')}_CA_CERTS, or unset INFLIGHT_PRODUCTION"
        )


def _require_tls_of_database(url: str) -> None:
    """Reject an address of PostgreSQL that would get rows, and a password, without encryption."""
    try:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        # Without a host it is a socket of this machine.
        local = parts.hostname in (*_LOOPBACK, None) and query.get("host", "/").startswith("/")
        safe = (
            parts.scheme.startswith("sqlite")
            or local
            or query.get("sslmode") in ("require", "verify-ca", "verify-full")
        )
    except ValueError:
        safe = False
    if not safe:
        raise ValueError(
            "INFLIGHT_PRODUCTION is set and INFLIGHT_ARCHIVE_URL may send data without encryption: add "
            "?sslmode=verify-full (with sslrootcert=FILE for a private authority), or unset INFLIGHT_PRODUCTION"
        )

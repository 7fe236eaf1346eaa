"""Settings that every process shares, read from ``INFLIGHT_*`` variables and from one file.

The file is the one that ``INFLIGHT_ENV_FILE`` names, otherwise ``.env`` in the folder that ``INFLIGHT_HOME`` names;
never one of the current folder. Each process declares a subclass with its own settings: `stream_app.settings`,
`monitoring.settings` and `producers.settings`. `inflight.settings` combines them. One file serves all.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from machine_learning_engineering.core import kafka_options
from machine_learning_engineering.core.env_file import UntrustedEnvFile, check_sources, env_file
from machine_learning_engineering.core.model import RedactAction
from machine_learning_engineering.storage.settings import PlaceSettings

PositiveSeconds = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(gt=0)]
Port = Annotated[int, Field(ge=0, le=65_535)]


class KernelSettings(PlaceSettings, BaseSettings):
    """Settings of the kernel and of every process. Sizes are in bytes, durations in seconds; port 0 is any free port.

    Raises:
        pydantic.ValidationError: A variable has an invalid value. The message names it but does not quote it.
    """

    # A rejected value may be a password: errors do not quote it.
    model_config = SettingsConfigDict(env_prefix="INFLIGHT_", extra="ignore", frozen=True, hide_input_in_errors=True)

    production: bool = False
    """Reject what is acceptable only on a developer's machine, such as a plaintext connection to the broker."""
    seed: int = 20_260_101
    """Seed of splits, searches and estimators: the same data and seed give the same model."""

    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    """Addresses ``host:port``, separated by commas; an IPv6 address is in brackets, as ``[::1]:9092``."""
    kafka_options: dict[str, str] = {}
    """Further librdkafka options (JSON), such as ``{"security.protocol": "SASL_SSL"}``; passed to every client. Options
    that load a library or run a command are rejected, see `core.kafka_options`. Hosts are tried over IPv6 and IPv4;
    ``{"broker.address.family": "v4"}`` saves the attempt where only IPv4 is routed."""
    kafka_idle_pause: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Pause of an idle consumer between fetches. Keep 0, except for a broker that answers an empty fetch at once
    instead of holding it, as the embedded broker does: there, every idle consumer would use half a core."""
    kafka_session_timeout: PositiveSeconds = 10.0
    """The broker removes a consumer from its group after this time without a heartbeat."""
    kafka_delivery_timeout: PositiveSeconds = 300.0
    """Time that a process retries delivery to an unreachable broker before it fails."""
    topic_prefix: str = ""
    """Prefix of every topic and consumer group, so that several deployments can share a broker."""
    topic_partitions: PositiveInt = 4
    """Partitions of topics that are created. A topic of requests has at most as many busy workers as partitions."""
    topic_replication: PositiveInt = 1
    """Replicas of topics that are created; 3 wherever the broker is a cluster."""

    max_request_bytes: Annotated[int, Field(gt=0, le=4 * 1024 * 1024)] = 1_000_000
    """Maximum size of a request; a larger one becomes a dead letter. The topic's limit is the upper bound, and the
    log record, which repeats the request, must fit too."""

    metrics_host: str = "127.0.0.1"
    """Address on which each process serves its metrics; ``0.0.0.0`` where Prometheus runs on another machine."""

    log_format: Literal["auto", "ecs", "text"] = "auto"
    """Format of the service log: ECS JSON or plain text. ``auto`` is text on a terminal and ECS elsewhere."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level of the service log that is written."""
    log_error_values: bool = False
    """Log the messages of all exceptions. They may quote values: for a developer's machine only."""
    log_redact: dict[str, dict[str, RedactAction]] = {}
    """Features that the prediction log redacts, by model and feature, such as
    ``{"titanic": {"name": "hash", "ticket": "drop"}}``; ``*`` matches every other model or feature."""
    log_redact_key: SecretStr | None = None
    """Secret of at least 16 characters that values are hashed with: the same value gives the same token."""

    models: tuple[str, ...] = ()
    """Names of the models, or of the installed packages, whose entry points may be loaded (JSON), such as
    ``["fraud"]``; all of them by default. Loading one runs its code with the rights and secrets of the process."""
    train_data_source: str = "dataset"
    """Source of the training data: ``dataset``, a file, a folder or the URL of one, ``log``, ``elasticsearch`` or
    ``log:LABELS_FILE``."""
    train_n_models: PositiveInt | None = None
    """Maximum number of configurations that a training tries; each model's own numbers by default."""
    train_max_source_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Maximum share that the rows labelled by one source may have among those of a log that a training or a retraining
    uses; 1 sets no limit."""
    train_threads: PositiveInt = 1
    """OpenMP and BLAS threads while candidates are compared. More help only on otherwise idle cores: on busy ones,
    threads wait for each other."""

    policies: Annotated[Path | None, BeforeValidator(lambda value: value or None)] = None
    """File of the policies by which models are retrained and rolled out; ``inflight.toml`` in `home` by default, if it
    is there. Never one of the current folder."""
    retrain_promote: bool = False
    """Promote a challenger that passes the promotion rule after a retraining; by default it waits for a person."""

    @property
    def trials_dir(self) -> Path:
        return self.home / "tried-versions"

    @property
    def data_dir(self) -> Path:
        return self.home / "data"

    @property
    def prediction_log(self) -> Path:
        return self.home / "predictions.sqlite"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, then the environment, then the file of settings."""
        if (path := env_file()) is None:
            return init_settings, env_settings, dotenv_settings
        try:
            file = _File(settings_cls, env_file=path)
        except UnicodeDecodeError as error:
            raise UntrustedEnvFile(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
        assert isinstance(env_settings, EnvSettingsSource)
        keys = [name for name in cls.model_fields if name.endswith("_api_key")]
        pairs = [(key, key.removesuffix("_api_key") + "_url") for key in keys]
        options = env_settings.env_vars.get("inflight_kafka_options") or file.env_vars.get("inflight_kafka_options")
        if any(name in (options or "") for name in kafka_options.SECRET):
            pairs.append(("kafka_options", "kafka_bootstrap_servers"))
        variables = [(f"INFLIGHT_{key.upper()}", f"INFLIGHT_{address.upper()}") for key, address in pairs]
        check_sources(variables, env_settings.env_vars, file.env_vars)
        return init_settings, env_settings, file

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Mask what may not be logged: passwords in URLs and in the options of Kafka."""
        for name, value in super().__repr_args__():
            if name == "kafka_options":
                value = kafka_options.without_secrets(value)
            yield name, redact_url(value) if isinstance(value, str) else value

    @field_validator("kafka_options")
    @classmethod
    def _check_kafka_options(cls, options: dict[str, str]) -> dict[str, str]:
        kafka_options.check_options(options)
        return options

    @model_validator(mode="after")
    def _reject_plaintext_in_production(self) -> Self:
        if self.production and (reason := kafka_options.plaintext_reason(self.kafka_options)):
            raise ValueError(
                f"INFLIGHT_PRODUCTION is set and the Kafka {reason}: set INFLIGHT_KAFKA_OPTIONS "
                'to {"security.protocol": "SASL_SSL", ...} or "SSL", or unset INFLIGHT_PRODUCTION'
            )
        return self

    @model_validator(mode="after")
    def _require_key_for_hashes(self) -> Self:
        key = self.log_redact_key
        if key is not None and len(key.get_secret_value()) < 16:
            raise ValueError("INFLIGHT_LOG_REDACT_KEY must have at least 16 characters")
        if key is None and any("hash" in rules.values() for rules in self.log_redact.values()):
            raise ValueError("INFLIGHT_LOG_REDACT hashes values: set INFLIGHT_LOG_REDACT_KEY to a secret of your own")
        return self


class _File(DotEnvSettingsSource):
    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except RecursionError:
            raise ValueError("nested too deeply") from None


def http_url(host: str, port: int) -> str:
    """Return the URL of a server; an IPv6 address is put in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def redact_url(url: str) -> str:
    """Remove the user name and password from a URL, so that it may be logged."""
    return re.sub(r"\S+", _without_user, url)


def _without_user(word: re.Match[str]) -> str:
    # Up to the last "@": a password may hold an unquoted "/" or "@".
    before, at, host = word[0].rpartition("@")
    scheme, slashes, _ = before.partition("//")
    if not at or not (slashes or ":" in before):
        return word[0]
    return scheme + slashes + host if slashes else host


@lru_cache(maxsize=1)
def load_settings() -> KernelSettings:
    """Read the shared settings of this process, once."""
    return KernelSettings()

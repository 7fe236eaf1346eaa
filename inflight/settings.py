"""Settings of all processes, as the `inflight` command reads them."""

from functools import lru_cache

from monitoring.settings import MonitoringSettings
from producers.settings import ProducerSettings
from stream_app.settings import WorkerSettings


class Settings(WorkerSettings, MonitoringSettings, ProducerSettings):
    """Settings of all processes."""


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """Read the settings of the command, once."""
    return Settings()

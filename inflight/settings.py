"""Settings of all processes, as the `inflight` command reads them."""

from functools import lru_cache

from monitoring.settings import MonitoringSettings
from producers.gateway.settings import GatewaySettings
from stream_app.settings import WorkerSettings


class Settings(WorkerSettings, MonitoringSettings, GatewaySettings):
    """Settings of all processes."""

    @property
    def metrics_ports(self) -> dict[str, int]:
        """Metrics port by process."""
        return {
            "worker": self.worker_metrics_port,
            "exporter": self.exporter_metrics_port,
            "indexer": self.indexer_metrics_port,
            "drift-monitor": self.drift_monitor_metrics_port,
            "label-joiner": self.label_joiner_metrics_port,
            "features": self.features_metrics_port,
            "archive": self.archive_metrics_port,
            "rollout-controller": self.rollout_controller_metrics_port,
            "retrainer": self.retrainer_metrics_port,
            "gateway": self.gateway_metrics_port,
        }


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """Read the settings of the command, once."""
    return Settings()

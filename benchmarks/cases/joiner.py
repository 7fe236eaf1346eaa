"""`inflight joiner`, as it is."""

from inflight.live_quality import RegistryJudge
from machine_learning_engineering.settings import load_settings
from monitoring.labels.joiner import run

if __name__ == "__main__":
    settings = load_settings()
    run(settings, RegistryJudge(settings))

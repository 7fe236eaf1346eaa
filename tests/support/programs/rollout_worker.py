"""A worker that serves the model `line` from the registry in its home. Its settings come from the environment."""

from inflight.settings import Settings
from machine_learning_engineering.observability import logging as service_log
from machine_learning_engineering.registry.registry import Registry
from stream_app.runtime.models import LoadedModels
from stream_app.worker import Worker
from tests.support.shadow_model import Faulty

if __name__ == "__main__":
    settings = Settings(_env_file=None)
    service_log.configure_logging("worker", settings, packages=("stream_app",))
    loaded = LoadedModels(Registry(settings.registry_dir), {"line": Faulty})
    Worker(settings, loaded.open_all(), loaded, {"line": Faulty}).run()

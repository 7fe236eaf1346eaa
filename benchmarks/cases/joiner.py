"""`inflight label-joiner`, unchanged."""

from inflight.adapters.evaluator import RegistryEvaluator
from inflight.settings import load_settings
from monitoring.labels.process import run

if __name__ == "__main__":
    settings = load_settings()
    run(settings, RegistryEvaluator(settings))

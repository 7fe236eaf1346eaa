"""`inflight rollout-controller`: moves rollouts until it is stopped."""

import threading

from prometheus_client import CollectorRegistry

from machine_learning_engineering.events.topics import LABELS, LOGS, MODEL_EVENTS, SHADOWS
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.registry.reader import RegistryReader
from monitoring.rollout.announcing import EventPublisher
from monitoring.rollout.controller import NAME, Controller
from monitoring.rollout.metrics import RolloutMetrics
from monitoring.rollout.ports import Collect, Judge
from monitoring.runtime.process import run_process
from monitoring.runtime.retry import run_until_ready
from monitoring.runtime.topics import prepare_topics
from monitoring.settings import RolloutControllerSettings


def run(settings: RolloutControllerSettings, collect: Collect, judge: Judge) -> None:
    """Run the controller until SIGTERM or SIGINT.

    Args:
        settings: Connection, registry, how often it looks.
        collect: Opens the evidence of a stage.
        judge: The verdict on evidence.

    Raises:
        OSError: The metrics port is taken.
        UnusableTopics: A topic has settings with which it must not start.
    """
    metrics_registry = CollectorRegistry()
    metrics = RolloutMetrics(metrics_registry)

    def prepare() -> None:
        prepare_topics(NAME, settings, reads=(LOGS, SHADOWS, LABELS), writes=(MODEL_EVENTS,))

    def work(stopping: threading.Event) -> None:
        run_until_ready(NAME, prepare, stopping)
        if stopping.is_set():
            return
        registry = RegistryReader(settings.registry_dir)
        controller = Controller(registry, collect, judge, EventPublisher(settings), metrics)
        log_event(NAME, "ready")
        controller.run(stopping, settings.rollout_interval)

    run_process(NAME, settings, work, (metrics_registry, settings.rollout_controller_metrics_port))

"""The worker process: puts the topology together, watches it, and drains it on SIGTERM."""

import gc
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import faust
from faust import streams
from prometheus_client import start_http_server

from machine_learning_engineering.events.topics import DEAD_LETTERS, LOGS, RESULTS
from machine_learning_engineering.kafka.client import consumer_options, create_topics, producer_options, topic_name
from machine_learning_engineering.observability import logging as service_log
from machine_learning_engineering.observability.redaction import WrongRules, redaction
from machine_learning_engineering.registry.registry import Registry
from model.catalog import available
from stream_app.faust_adapter.app import GROUP, create_app
from stream_app.faust_adapter.driver import BatchApp, TransportOptions
from stream_app.kafka.publisher import Publisher
from stream_app.runtime.metrics import WorkerMetrics
from stream_app.runtime.models import LoadedModels
from stream_app.runtime.reload import ModelReloader
from stream_app.runtime.scheduler import BatchScheduler, exit_process
from stream_app.runtime.watchdog import Watch
from stream_app.serving.scorer import Model, OutputTopics, Scorer
from stream_app.settings import WorkerSettings

logger = logging.getLogger(__name__)

# The scoring thread and librdkafka's callbacks share the interpreter lock; the default of 5 ms shows in the p99.
SWITCH_SECONDS = 0.001
# New containers between two garbage collections. A round of 4,096 records makes and frees some 40,000: with Python's
# default of 700 the collector took a fifth of the worker's time, and found nothing.
GC_OBJECTS = 100_000


def check_faust() -> None:
    """Refuse to run where Faust fell back to pure Python: there, messages of an old assignment count as processed.

    Raises:
        RuntimeError: Faust's Cython stream iterator is not in use.
    """
    if streams._CStreamIterator is None:
        raise RuntimeError(
            "Faust runs without its Cython stream iterator: unset NO_CYTHON and install faust-streaming from a wheel"
        )


class Worker:
    """One worker: the Faust app, its scoring lane and its publisher.

    With `served`, a new champion of its registry takes the place of the old one while requests flow.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        models: Mapping[str, Model],
        served: LoadedModels | None = None,
        classes: Mapping[str, type] | None = None,
    ) -> None:
        """`classes` are those of all models that may come to be served; by default those of `models`.

        Raises:
            WrongRules: the log's features can't be redacted as the settings or a class say.
        """
        check_faust()
        self.settings = settings
        self.models = models
        self.metrics = WorkerMetrics()
        for name, model in models.items():
            self.metrics.model.labels(name, model.version).set(1)
        # No linger: what comes while a batch is under way is the next batch.
        self.publisher = Publisher({**producer_options(settings), "linger.ms": 0})
        self.topics = OutputTopics(*(topic_name(settings, name) for name in (RESULTS, LOGS, DEAD_LETTERS)))
        if classes is None:
            classes = {name: type(model) for name, model in models.items()}
        rules = redaction(settings, classes)
        for name in rules.unmatched:
            logger.warning("INFLIGHT_LOG_REDACT has rules for %s, and there is no such model", name)
        scorer = Scorer(models, self.topics, max_request_bytes=settings.max_request_bytes, redaction=rules)
        self.lane = BatchScheduler(
            scorer,
            self.publisher,
            self.metrics,
            slices_in_flight=settings.worker_max_in_flight_batches,
            round_records=settings.worker_max_batch_records,
        )
        self.app = create_app(settings, self.lane, self._options())
        self.app.task(self._watch)
        if served is not None:
            self._model_watch = ModelReloader(self.app, served, scorer.serve, self.metrics)
            self.app.task(self._watch_models)

    def _options(self) -> TransportOptions:
        settings = self.settings
        return TransportOptions(
            consumer={
                **consumer_options(settings, GROUP),
                # Faust lets go of everything on a rebalance, so an eager strategy is the honest one.
                "partition.assignment.strategy": "roundrobin",
                "session.timeout.ms": int(settings.kafka_session_timeout * 1000),
                "heartbeat.interval.ms": int(settings.kafka_session_timeout * 1000 / 4),
                "max.poll.interval.ms": 300_000,
                "queued.max.messages.kbytes": 16 * 1024,
                "fetch.queue.backoff.ms": 10,
                "fetch.error.backoff.ms": 50,
            },
            publisher=self.publisher,
            slice_records=settings.worker_max_batch_records,
            buffer_bytes=settings.worker_buffer_bytes,
            idle_pause=settings.kafka_idle_pause,
            on_statistics=self.metrics.on_statistics,
        )

    async def _watch(self, app: BatchApp) -> None:
        await Watch(app, self.lane, self.publisher, self.metrics, self.settings.worker_stall_timeout).run()

    async def _watch_models(self, app: BatchApp) -> None:
        await self._model_watch.run(self.settings)

    def run(self) -> None:
        """Run until SIGTERM or SIGINT, then drain. Ends the process."""
        sys.setswitchinterval(SWITCH_SECONDS)
        # Half a million objects of Faust and scikit-learn live as long as the process: no collection has to walk them.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_OBJECTS)
        create_topics(self.settings)
        self.publisher.learn((self.topics.results, self.topics.logs, self.topics.dead_letters))
        server, _ = start_http_server(
            self.settings.worker_metrics_port, addr=self.settings.metrics_host, registry=self.metrics.registry
        )
        logger.info("metrics on http://%s:%s/metrics", *server.server_address[:2])
        for name, model in self.models.items():
            logger.info("serving %s %s", name, model.version)
        # What Faust has to say it logs, and then it prints it again, with the values that are in an exception's text.
        with Path(os.devnull).open("w") as nowhere:
            faust_worker = faust.Worker(
                self.app, redirect_stdouts=False, override_logging=False, quiet=True, stderr=nowhere
            )
            faust_worker.spinner = None
            self._serve(faust_worker)

    def _serve(self, faust_worker: faust.Worker) -> None:
        try:
            faust_worker.execute_from_commandline()
        finally:
            if self.lane.in_flight:
                # The interpreter would wait for the scoring thread without end.
                exit_process(f"stopped while {self.lane.in_flight} slices were unfinished")


def main() -> None:
    """Run one worker with the settings of the environment, until SIGTERM."""
    settings = WorkerSettings()
    service_log.configure_logging("worker", settings, packages=("stream_app",))
    classes = available()
    served = LoadedModels(Registry(settings.registry_dir), classes)
    models = served.open_all()
    try:
        worker = Worker(settings, models, served, classes)
    except WrongRules as error:
        logger.critical("%s", error.args[0])
        raise SystemExit(2) from error
    worker.run()

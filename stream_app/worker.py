"""The worker process: assembles its parts, runs them, and drains on SIGTERM."""

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from confluent_kafka import KafkaException

from machine_learning_engineering.adoption.model import AdoptedModel
from machine_learning_engineering.declaration.framed import decoder_of
from machine_learning_engineering.declaration.reading import InvalidDeclaration
from machine_learning_engineering.declaration.schema import Declaration
from machine_learning_engineering.events.topics import (
    DEAD_LETTERS,
    LOGS,
    MAX_MESSAGE_BYTES,
    MODEL_EVENTS,
    REQUESTS,
    RESULTS,
    SHADOWS,
)
from machine_learning_engineering.kafka.client import producer_options, topic_name
from machine_learning_engineering.kafka.connection import is_no_response, no_response
from machine_learning_engineering.kafka.topic_check import TopicFault, UnusableTopics, require_topics
from machine_learning_engineering.observability import logging as service_log
from machine_learning_engineering.observability.health import metrics_app
from machine_learning_engineering.observability.metrics_server import start_metrics_server
from machine_learning_engineering.observability.redaction import InvalidRules, Redactor, redaction
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.trial import Trials
from machine_learning_engineering.settings import http_url
from machine_learning_engineering.storage.store import StoreUnavailable
from model.catalog import available
from stream_app.faust_adapter.app import check_faust, create_app, run_app
from stream_app.faust_adapter.driver import BatchApp
from stream_app.kafka.publisher import Publisher
from stream_app.kafka.replier import Replier
from stream_app.kafka.source_topics import require_sources
from stream_app.runtime.breaker import Breaker
from stream_app.runtime.metrics import WorkerMetrics
from stream_app.runtime.models import LoadedModels
from stream_app.runtime.reload import ModelReloader
from stream_app.runtime.scheduler import EXIT_BUG, BatchScheduler, exit_process
from stream_app.runtime.watchdog import Watchdog
from stream_app.serving.arms import ShadowPlan
from stream_app.serving.bindings import Binding, Bindings
from stream_app.serving.outcomes import OutputTopics
from stream_app.serving.replies import ReplyRules
from stream_app.serving.scorer import Model, Scorer
from stream_app.settings import WorkerSettings
from stream_app.shadow.metrics import ShadowMetrics
from stream_app.shadow.process import ShadowProcess
from stream_app.shadow.producer import ShadowProducer
from stream_app.shadow.scoring import Shadows

logger = logging.getLogger(__name__)

# The scoring thread and librdkafka's callbacks share the interpreter lock; the default of 5 ms shows in the p99.
SWITCH_SECONDS = 0.001
# New containers between two garbage collections. A scoring batch of 4,096 records makes and frees some 40,000: with
# Python's default of 700 the collector took a fifth of the worker's time and found nothing.
GC_OBJECTS = 100_000


class Worker:
    """One worker: the Faust app, its scheduler and its publisher.

    Args:
        settings: the worker's settings.
        models: the models to serve, by name.
        loaded: where given, new champions of its registry replace the models while requests flow.
        classes: the classes of all models that may come into service; by default those of `models`.
        bindings: existing topics whose records are requests, by name; by default those that `loaded` has.

    Raises:
        InvalidRules: the features in log records can't be redacted as the settings or a class say.
        RuntimeError: Faust can't be used; see `check_faust`.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        models: Mapping[str, Model],
        loaded: LoadedModels | None = None,
        classes: Mapping[str, type] | None = None,
        bindings: Bindings | None = None,
    ) -> None:
        check_faust()
        self.settings = settings
        self._loaded = loaded
        self.bindings: Bindings = bindings or (loaded.bindings if loaded is not None else {})
        self._has_new_topics = False
        self.models = models
        self.metrics = WorkerMetrics()
        for name, model in models.items():
            self.metrics.model.labels(name, model.version).set(1)
            self.metrics.model_refused.labels(name).set(0)
        self._watch_unusual(models)
        # Before there is a producer: it has to keep to the limits of the topics.
        self._require(partial(require_sources, settings, self.bindings.values()))
        limits = [one.max_result_bytes for one in self.bindings.values() if one.max_result_bytes is not None]
        self.publisher = Publisher(producer_options(settings), min(limits, default=MAX_MESSAGE_BYTES))
        self.topics = OutputTopics(*(topic_name(settings, name) for name in (RESULTS, LOGS, DEAD_LETTERS)))
        if classes is None:
            classes = {}
        self._classes: dict[str, type] = {**classes, **{name: type(model) for name, model in models.items()}}
        rules = redaction(settings, self._classes)
        for name in rules.unmatched:
            logger.warning("INFLIGHT_LOG_REDACT has rules for %s, and there is no such model", name)
        allowed = settings.worker_reply_topics
        scorer = Scorer(
            models,
            self.topics,
            max_request_bytes=settings.max_request_bytes,
            redaction=rules,
            replies=ReplyRules(allowed, settings.topic_prefix) if allowed else None,
            bindings=self.bindings,
            arms=None if loaded is None else loaded.rollouts.arms,
            on_arm=self.metrics.on_arm,
        )
        self.shadows = None if loaded is None else shadows_of(settings, loaded, self.metrics.shadows)
        self.scheduler = BatchScheduler(
            scorer,
            self.publisher,
            self.metrics,
            max_in_flight=settings.worker_max_in_flight_batches,
            max_batch_records=settings.worker_max_batch_records,
            breaker=Breaker(settings.worker_max_failure_ratio, settings.worker_failure_window),
            replier=Replier(producer_options(settings), self.metrics.replies_lost.inc) if allowed else None,
            shadows=self.shadows,
        )
        sources = [one.source for one in self.bindings.values()]
        self.app = create_app(settings, self.scheduler, self.metrics, sources)
        self.app.task(self._run_watchdog)
        if loaded is not None:
            self.metrics.show_rollouts(loaded.rollouts)
            self._scorer = scorer
            self._reloader = ModelReloader(self.app, loaded, self._serve, self.metrics)
            self.app.task(self._run_reloader)

    async def _run_watchdog(self, app: BatchApp) -> None:
        settings = self.settings
        watchdog = Watchdog(
            app,
            self.scheduler,
            self.publisher,
            self.metrics,
            settings.worker_stall_timeout,
            # A little longer than outputs wait for the broker: the producer's error names the cause.
            broker_timeout=settings.kafka_delivery_timeout + settings.worker_stall_timeout,
        )
        await watchdog.run()

    def _serve(self, models: Mapping[str, Model]) -> None:
        bindings = self._loaded.bindings if self._loaded is not None else {}
        if _topics(bindings) != _topics(self.bindings):
            # A consumer group is joined, and topics are checked, at the start.
            logger.info("a new version reads or writes other topics: the worker starts again")
            self._has_new_topics = True
            os.kill(os.getpid(), signal.SIGTERM)
            return
        for topic, binding in bindings.items():
            binding.take_limits(self.bindings[topic])
        self.bindings = bindings
        # An adopted version brings its own rules; `LoadedModels` has checked them.
        classes = self._classes | {name: type(model) for name, model in models.items()}
        self._watch_unusual(models)
        if self._loaded is not None and self.shadows is not None:
            self._scorer.serve(models, bindings, redaction(self.settings, classes), self._loaded.rollouts.arms)
            self.shadows.follow(self._loaded.rollouts.plans)
        # A new version may have loaded a library that none of the others needs.
        self.scheduler.cap_threads()

    def _watch_unusual(self, models: Mapping[str, Model]) -> None:
        def count(name: str, feature: str, reason: str, number: int) -> None:
            self.metrics.unusual_values.labels(name, feature, reason).inc(number)

        for name, model in models.items():
            if isinstance(model, AdoptedModel):
                model.on_unusual = partial(count, name)

    async def _run_reloader(self, app: BatchApp) -> None:
        await self._reloader.run(self.settings)

    def _require(self, check: Callable[[], Iterable[TopicFault]]) -> None:
        try:
            for fault in check():
                logger.warning("%s", fault)
        except UnusableTopics as error:
            # Requests would be lost, or one output would end every worker, however often it restarts.
            for fault in error.faults:
                logger.critical("%s", fault)
            raise SystemExit(2) from error
        except KafkaException as error:
            if not is_no_response(error.args[0]):
                raise
            logger.critical("%s", no_response(self.settings.kafka_bootstrap_servers, error.args[0]))
            raise SystemExit(2) from error

    def run(self) -> None:
        """Run until SIGTERM or SIGINT, then drain. Ends the process.

        With unusable topics, or without a broker, the exit code is 2.
        """
        sys.setswitchinterval(SWITCH_SECONDS)
        # Half a million objects of Faust and scikit-learn live as long as the process: the collector may skip them.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_OBJECTS)
        outputs = (RESULTS, LOGS, DEAD_LETTERS)
        # A shadow that can't be written is no reason to stop: the topic's faults are warnings, as of one that is read.
        reads = (REQUESTS, MODEL_EVENTS, SHADOWS)
        self._require(partial(require_topics, self.settings, reads=reads, writes=outputs))
        self.publisher.load_partition_counts({*self.topics, *(one.results for one in self.bindings.values())})
        application = metrics_app(self.metrics.registry)
        server, _ = start_metrics_server(application, self.settings.metrics_host, self.settings.worker_metrics_port)
        host, port = server.server_address[:2]
        logger.info("metrics on %s/metrics", http_url(str(host), port))
        for name, model in self.models.items():
            logger.info("serving %s %s", name, model.version)
        for topic, binding in self.bindings.items():
            logger.info("%s reads %s; its results go to %s", binding.model, topic, binding.results)
        if self._loaded is not None and self.shadows is not None:
            self.shadows.follow(self._loaded.rollouts.plans)
        try:
            run_app(self.app)
        except SystemExit as ended:
            if ended.code or not self._has_new_topics:
                raise
        finally:
            if self.scheduler.in_flight:
                # The interpreter would wait for the scoring thread indefinitely.
                exit_process(f"stopped while {self.scheduler.in_flight} batches were unfinished")
            if self.shadows is not None:
                self.shadows.stop()
        if self._has_new_topics:
            logging.shutdown()
            command = [sys.executable, "-P", *sys.orig_argv[1:]]
            os.execv(command[0], command)  # noqa: S606


def shadows_of(settings: WorkerSettings, loaded: LoadedModels, metrics: ShadowMetrics) -> Shadows:
    """The shadows of a worker; none of them runs yet."""

    def start(plan: ShadowPlan, is_stopping: Callable[[], bool]) -> ShadowProcess:
        name, version = plan.model, plan.shadow_version
        rollout = loaded.rollouts.open.get(name)
        limits = [settings.worker_shadow_memory_bytes, rollout.policy.max_memory_bytes if rollout is not None else 0]
        return ShadowProcess(
            loaded.registry,
            name,
            version,
            loaded.class_of(name, version),
            timeout=settings.worker_shadow_timeout,
            memory_bytes=min(one for one in limits if one),
            is_stopping=is_stopping,
        )

    def producer() -> ShadowProducer:
        return ShadowProducer(producer_options(settings), topic_name(settings, SHADOWS), metrics.lost.inc)

    return Shadows(start, producer, metrics)


def _topics(bindings: Bindings) -> set[tuple[str, str, str]]:
    return {(one.topic, one.results, one.source.start) for one in bindings.values()}


def main() -> None:
    """Run one worker with the settings of the environment, until SIGTERM."""
    settings = WorkerSettings()
    service_log.configure_logging("worker", settings, packages=("stream_app",))
    classes = available()

    def accept(name: str, model_class: type) -> None:
        redaction(settings, {name: model_class})

    registry = Registry(settings.registry_dir)
    results = topic_name(settings, RESULTS)

    def bind(declaration: Declaration) -> Binding:
        return Binding(declaration, results, decoder_of(declaration))

    def redactor(name: str, model_class: type) -> Redactor | None:
        return redaction(settings, {name: model_class}).by_model.get(name)

    loaded = LoadedModels(registry, classes, Trials(registry, settings.trials_dir), accept, bind, redactor)
    try:
        models = loaded.open_all()
        worker = Worker(settings, models, loaded, classes)
    except StoreUnavailable as error:
        logger.critical("%s", error)
        raise SystemExit(EXIT_BUG) from error
    except (InvalidRules, InvalidDeclaration) as error:
        logger.critical("%s", error.args[0])
        raise SystemExit(2) from error
    worker.run()

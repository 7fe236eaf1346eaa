"""`inflight label-joiner`: labels from their topic into the log, and live quality by them.

An offset is committed only when each label before it is in the log, pending, or a dead letter. After a kill at any
moment, some labels are reread, which changes nothing.
"""

import threading
from contextlib import suppress
from time import monotonic

from prometheus_client import CollectorRegistry

from machine_learning_engineering.dead_letters.writer import DeadLetterWriter
from machine_learning_engineering.events.topics import DEAD_LETTERS, LABELS, MEASUREMENTS
from machine_learning_engineering.kafka.client import topic_name
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.settings import redact_url
from monitoring.elastic.client import FAILURES, connect
from monitoring.labels.join import Join
from monitoring.labels.metrics import LabelJoinerMetrics
from monitoring.labels.pending import PendingLabels
from monitoring.labels.reports import STAGE
from monitoring.labels.resolver import LabelResolver
from monitoring.labels.store import LabelStore
from monitoring.quality.evaluation import Evaluator
from monitoring.quality.measurement import Publisher, QualityMonitor
from monitoring.quality.metrics import QualityMetrics
from monitoring.quality.rows import LabelledPredictions
from monitoring.runtime.batch_reader import BatchReader, Interrupted
from monitoring.runtime.groups import LABEL_JOINER, READS
from monitoring.runtime.process import run_process
from monitoring.runtime.retry import run_until_ready
from monitoring.runtime.topics import prepare_topics
from monitoring.settings import LabelJoinerSettings

MEASURE_SECONDS = 10.0
"""Maximum time that a stopping process waits for a running measurement."""
_GAUGE_SECONDS = 2.0


class LabelJoiner:
    """The loop: a batch of labels, then a page of pending ones."""

    def __init__(
        self, reader: BatchReader, resolver: LabelResolver, pending: PendingLabels, metrics: LabelJoinerMetrics
    ) -> None:
        self._reader = reader
        self._resolver = resolver
        self._pending = pending
        self._metrics = metrics
        self._generation = reader.generation
        self._gauges_due = 0.0

    def run(self) -> None:
        """Join until the process stops. Unfinished labels are not committed, and will be reread.

        Raises:
            KafkaException: a permanent error of Kafka.
        """
        self._reader.run(self.step)

    def step(self) -> None:
        """One batch and one page."""
        reader = self._reader
        messages = reader.batch()
        if reader.generation != self._generation:
            self._generation = reader.generation
            self._resolver.start_over()
        try:
            if messages:
                self._resolver.process(messages)
            reader.commit(messages)
            self._resolver.look_up(reader.partitions)
            if monotonic() >= self._gauges_due:
                self._gauges_due = monotonic() + _GAUGE_SECONDS
                self._set_gauges()
        except Interrupted:
            log_event("label-joiner", "interrupted", labels=len(messages))

    def _set_gauges(self) -> None:
        partitions = self._reader.partitions
        # Other requests to Elasticsearch report a failure.
        with suppress(*FAILURES):
            self._metrics.pending.set(self._pending.count(partitions) if partitions else 0)


def run(settings: LabelJoinerSettings, evaluator: Evaluator) -> None:
    """Run the label joiner until SIGTERM or SIGINT.

    Args:
        evaluator: knows the models.

    Raises:
        KafkaException: a permanent error of Kafka.
        elasticsearch.ApiError: Elasticsearch rejects the templates.
        OSError: the metrics port is taken.
    """
    registry = CollectorRegistry()
    metrics, quality_metrics = LabelJoinerMetrics(registry), QualityMetrics(registry)

    def work(stopping: threading.Event) -> None:
        with connect(settings, stopping=stopping) as client:
            store = LabelStore(client, settings)
            run_until_ready("label-joiner", lambda: _prepare(settings, store), stopping)
            if stopping.is_set():
                return
            predictions, publish = LabelledPredictions(client), Publisher(settings)
            quality = QualityMonitor(settings, predictions, evaluator, publish, quality_metrics, stopping)
            reader = BatchReader(
                settings,
                "label-joiner",
                LABEL_JOINER,
                metrics.consumer,
                metrics.retries,
                stopping,
                max_records=settings.label_joiner_batch_records,
                max_bytes=settings.elasticsearch_batch_bytes,
            )
            pending = PendingLabels(client, settings, topic_name(settings, LABELS))
            resolver = LabelResolver(
                settings,
                Join(store, reader.wait),
                pending,
                DeadLetterWriter(settings, STAGE),
                reader.wait,
                metrics,
                rejection_reason=evaluator.rejection_reason,
                mark_dirty=quality.mark_dirty,
                cancelled=stopping,
            )
            log_event("label-joiner", "ready")
            quality.start()
            try:
                LabelJoiner(reader, resolver, pending, metrics).run()
            finally:
                stopping.set()
                quality.join(MEASURE_SECONDS)

    url = redact_url(settings.elasticsearch_url)
    run_process("label-joiner", settings, work, (registry, settings.label_joiner_metrics_port), elasticsearch=url)


def _prepare(settings: LabelJoinerSettings, store: LabelStore) -> None:
    store.prepare()
    prepare_topics("label-joiner", settings, reads=READS[LABEL_JOINER], writes=(DEAD_LETTERS, MEASUREMENTS))

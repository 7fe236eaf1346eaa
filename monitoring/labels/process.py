"""`inflight joiner`: labels from their topic into the log, and live quality by them.

Offsets are committed only when each label before them is in the log, among the labels that wait, or among the dead
letters. Killed at any moment, it reads some labels again, which changes nothing.
"""

import threading

from confluent_kafka import Consumer, Message, TopicPartition
from prometheus_client import CollectorRegistry

from machine_learning_engineering.dead_letters.writer import DeadLetterWriter
from machine_learning_engineering.events.topics import LABELS
from machine_learning_engineering.kafka.client import Fetch, consumer_options, create_topics, topic_name
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.settings import redact_url
from monitoring.elastic import client as search
from monitoring.labels.gauges import Gauges
from monitoring.labels.join import Interrupted, Join
from monitoring.labels.metrics import LabelJoinerMetrics
from monitoring.labels.pending import PendingLabels
from monitoring.labels.reports import STAGE
from monitoring.labels.resolver import LabelResolver
from monitoring.labels.store import LabelStore
from monitoring.quality.evaluation import Evaluator, Publisher, Quality
from monitoring.runtime.consumer import commit, records
from monitoring.runtime.groups import JOINER
from monitoring.runtime.metrics import Children
from monitoring.runtime.process import serve_metrics, until_signalled
from monitoring.runtime.retry import TOPIC_SECONDS, prepare, wait_before
from monitoring.settings import LabelJoinerSettings

LINGER = 0.25
"""Seconds that a batch waits for further labels."""
MEASURE_SECONDS = 10.0
"""So long a measurement that is under way is waited for when the process is to end."""
_PIECE = 200


class Reader:
    """Reads labels in batches and commits them; keeps its place in the group while the search node is away."""

    def __init__(self, settings: LabelJoinerSettings, metrics: LabelJoinerMetrics, stopping: threading.Event) -> None:
        self._settings = settings
        self._stopping = stopping
        self._retries = Children(metrics.retries)
        options = {
            **consumer_options(settings, JOINER),
            "session.timeout.ms": int(settings.kafka_session_timeout * 1000),
            "queued.max.messages.kbytes": 16 * 1024,
        }
        self.consumer = Consumer(options)
        self._fetch = Fetch(self.consumer, settings.kafka_idle_pause)
        self._early: list[Message] = []
        self._uncommitted: dict[tuple[str, int], int] = {}
        self.committed: dict[tuple[str, int], int] = {}
        self.generation = 0
        """Counts rebalances: of another generation are other partitions."""
        self._generation_of_batch = 0

    def subscribe(self) -> None:
        """Join the group."""
        topic = topic_name(self._settings, LABELS)
        self.consumer.subscribe([topic], on_revoke=self._on_revoke, on_lost=self._on_lost)

    def close(self) -> None:
        """Leave the group."""
        self.consumer.close()

    @property
    def partitions(self) -> list[int]:
        """The partitions of the topic that are this process's."""
        return sorted(tp.partition for tp in self.consumer.assignment())

    def batch(self) -> list[Message]:
        """The next labels: as many as the settings say, or what came within `LINGER` seconds.

        Raises:
            KafkaException: an error that retrying does not mend.
        """
        messages, size = records(self._early, "joiner"), 0
        self._early = []
        room = self._settings.label_joiner_batch_records - len(messages)
        timeout = 0.0 if messages else LINGER
        while room > 0 and size < self._settings.elasticsearch_batch_bytes:
            generation = self.generation
            piece = records(self._fetch.consume(min(room, _PIECE), timeout), "joiner")
            if self.generation != generation:
                # What was read before belongs to somebody else now.
                messages.clear()
            messages += piece
            size += sum(len(message) for message in piece)
            room -= len(piece)
            if len(piece) < _PIECE:
                break
        self._generation_of_batch = self.generation
        return messages

    def commit(self, messages: list[Message]) -> None:
        """Commit what is settled.

        Raises:
            KafkaException: a fatal error; others are mended by the next commit.
        """
        for message in messages:
            place = message.topic(), message.partition()
            self._uncommitted[place] = max(message.offset() + 1, self._uncommitted.get(place, 0))
        if self._uncommitted and commit(self.consumer, self._uncommitted, "joiner"):
            self.committed.update(self._uncommitted)
            self._uncommitted.clear()

    def wait(self, attempt: int, cause: str, labels: int) -> None:
        """See `join.Patience`: partitions are paused meanwhile, and the consumer stays in its group."""
        self._retries(cause).inc()
        seconds = wait_before(attempt)
        if attempt in (0, 5) or attempt % 30 == 29:
            log_event(
                "joiner", "retrying", cause=cause, attempt=attempt + 1, labels=labels, wait_seconds=round(seconds, 2)
            )
        if self._stopping.is_set():
            raise Interrupted
        paused = self.consumer.assignment()
        self.consumer.pause(paused)
        # In here a rebalance is answered; what is assigned by it is not paused, and what comes from there is kept.
        self._early += self._fetch.consume(_PIECE, min(seconds, 0.5), may_rest=False)
        self._stopping.wait(max(0.0, seconds - 0.5))
        if self.generation != self._generation_of_batch or self._stopping.is_set():
            raise Interrupted
        self.consumer.resume(paused)

    # Rebalancing is eager: all partitions are revoked, and some are assigned afterwards, from what is committed.
    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.commit([])
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # librdkafka keeps a partition paused through a revocation: assigned again, it would never be fetched.
        consumer.resume(partitions)
        self._early.clear()
        self._uncommitted.clear()
        self.committed.clear()
        self.generation += 1


class LabelJoiner:
    """The loop: a batch of labels, then a page of those that wait."""

    def __init__(self, reader: Reader, settling: LabelResolver, gauges: Gauges) -> None:
        self._reader = reader
        self._settling = settling
        self._gauges = gauges
        self._generation = reader.generation

    def run(self, stopping: threading.Event) -> None:
        """Join until `stopping` is set. What is unfinished then was not committed, and is read again.

        Raises:
            KafkaException: Kafka refuses for good.
        """
        self._reader.subscribe()
        try:
            while not stopping.is_set():
                self.step()
        finally:
            self._reader.close()

    def step(self) -> None:
        """One batch and one page."""
        reader = self._reader
        messages = reader.batch()
        if reader.generation != self._generation:
            self._generation = reader.generation
            self._settling.start_over()
        try:
            if messages:
                self._settling.take(messages)
                reader.commit(messages)
            self._settling.look_up(reader.partitions)
            self._gauges.update(reader)
        except Interrupted:
            log_event("joiner", "interrupted", labels=len(messages))


def run(settings: LabelJoinerSettings, judge: Evaluator | None = None) -> None:
    """Run the joiner until SIGTERM or SIGINT.

    Args:
        judge: knows the models; without one labels are joined and nothing is measured.

    Raises:
        KafkaException: Kafka refuses for good.
        elasticsearch.ApiError: Elasticsearch refuses the templates.
        OSError: the metrics port is taken.
    """
    registry = CollectorRegistry()
    metrics = LabelJoinerMetrics(registry)
    with (
        until_signalled() as stopping,
        serve_metrics(registry, settings.metrics_host, settings.label_joiner_metrics_port) as url,
    ):
        client = search.connect(settings, stopping=stopping)
        search_url = redact_url(settings.elasticsearch_url)
        log_event("joiner", "started", metrics=url, kafka=settings.kafka_bootstrap_servers, search=search_url)
        store = LabelStore(client, settings)
        waiting = PendingLabels(client, settings, topic_name(settings, LABELS))
        measuring: Quality | None = None
        try:
            _prepare(settings, store, waiting, stopping)
            if not stopping.is_set():
                if judge is not None:
                    measuring = Quality(settings, store, judge, Publisher(settings), metrics, stopping)
                    measuring.start()
                _joiner(settings, store, waiting, metrics, judge, measuring, stopping).run(stopping)
        finally:
            stopping.set()
            if measuring is not None:
                measuring.join(MEASURE_SECONDS)
            client.close()
        log_event("joiner", "stopped")


def _joiner(
    settings: LabelJoinerSettings,
    store: LabelStore,
    waiting: PendingLabels,
    metrics: LabelJoinerMetrics,
    judge: Evaluator | None,
    measuring: Quality | None,
    stopping: threading.Event,
) -> LabelJoiner:
    reader = Reader(settings, metrics, stopping)
    settling = LabelResolver(
        settings,
        Join(store, reader),
        waiting,
        DeadLetterWriter(settings, STAGE),
        reader,
        metrics,
        refusal=(lambda model, label: None) if judge is None else judge.refusal,
        touched=(lambda versions: None) if measuring is None else measuring.touch,
        cancelled=stopping,
    )
    log_event("joiner", "ready")
    return LabelJoiner(reader, settling, Gauges(waiting, metrics))


def _prepare(settings: LabelJoinerSettings, store: LabelStore, waiting: PendingLabels, stopping: threading.Event) -> None:
    def steps() -> None:
        store.prepare()
        waiting.prepare()
        create_topics(settings, TOPIC_SECONDS)

    prepare("joiner", steps, stopping)

"""`inflight features follow`: logged requests and reported labels into the feature store, as they arrive.

An offset is committed only after the store has the row on disk and the examples contain it. Rows that are reread after
a crash are in the store already; the examples are written anyway.
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
from confluent_kafka import Consumer, Message, TopicPartition
from msgspec import Struct
from prometheus_client import CollectorRegistry

from machine_learning_engineering.events.labels import InvalidLabel, LabelTooLarge, read_label
from machine_learning_engineering.events.schemas import decode_log, parse
from machine_learning_engineering.events.topics import LABELS, LOGS
from machine_learning_engineering.feature_store.examples import BuildReport, ExampleBuilder
from machine_learning_engineering.feature_store.store import FeatureStore
from machine_learning_engineering.kafka.client import topic_name
from machine_learning_engineering.kafka.idle import IdlePausingConsumer
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.sdk import MLEModel
from monitoring.feature_ingest.metrics import FeatureMetrics
from monitoring.runtime.consumer import GroupConsumer, Position, commit, ends_to_commit, group_options, records
from monitoring.runtime.groups import FEATURES
from monitoring.runtime.process import run_process
from monitoring.runtime.retry import run_until_ready
from monitoring.runtime.topics import prepare_topics
from monitoring.settings import FeatureIngestSettings

_BATCH = 500
_MAX_RECORDS = 10_000
_POLL_SECONDS = 0.25


class FollowReport(Struct, frozen=True):
    """Result so far: per model, and the numbers of unreadable records and of records of other models."""

    models: list[BuildReport]
    unreadable: int
    others: int


class Follower:
    """Consumes logs and labels, and flushes them to the store every `every` seconds or `_MAX_RECORDS` records.

    Args:
        classes: the models whose records are stored, by name.
        folder: examples of a model are written to its subfolder of the model's name, whenever there are new ones.
    """

    def __init__(
        self,
        settings: FeatureIngestSettings,
        store: FeatureStore,
        classes: Mapping[str, type[MLEModel]],
        folder: Path,
        *,
        every: float = 60.0,
        metrics: FeatureMetrics | None = None,
    ) -> None:
        self._metrics = metrics or FeatureMetrics(CollectorRegistry())
        self.unreadable = self.others = 0
        self._every = every
        self._folder = folder
        self._builders = {name: ExampleBuilder(store, model_class) for name, model_class in classes.items()}
        self._built: dict[str, BuildReport] = {}
        self._offsets: dict[Position, int] = {}
        self._committed: dict[Position, int] = {}
        self._records = 0
        self._labels = topic_name(settings, LABELS)
        self._consumer = GroupConsumer(group_options(settings, FEATURES), "features", self._metrics.consumer)
        self._fetch = IdlePausingConsumer(self._consumer, settings.kafka_idle_pause, patient=True)
        # Before partitions are revoked, what was read from them is flushed and committed.
        self._consumer.subscribe(
            [topic_name(settings, LOGS), self._labels],
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    def run(self, stopping: threading.Event) -> None:
        """Follow until `stopping` is set; then flush.

        Raises:
            FeatureStoreError: the store can't be written.
            KafkaException: a permanent error.
        """
        due = monotonic() + self._every
        try:
            while not stopping.is_set():
                for message in records(self._fetch.consume(_BATCH, _POLL_SECONDS), "features"):
                    self._add(message)
                if self._records >= _MAX_RECORDS or monotonic() >= due:
                    self._offsets |= ends_to_commit(self._consumer, self._committed)
                    self.flush()
                    due = monotonic() + self._every
            self.flush()
        finally:
            self._consumer.close()

    def flush(self) -> None:
        """Write what was read to the store, write the examples of models that may lack it, and commit."""
        with self._metrics.flush.time():
            self._flush()

    def _flush(self) -> None:
        for name, builder in self._builders.items():
            builder.flush()
            if builder.is_dirty:
                built = self._built[name] = builder.write_examples(self._folder / name)
                log_event("features", "kept", **msgspec.structs.asdict(built))
        # Not earlier: committed records are not reread, and would be missing in the examples until new ones arrive.
        if self._offsets:
            # If that fails, the next owner of the partition rereads the records and finds them in the store.
            if commit(self._consumer, self._offsets, "features"):
                self._committed |= self._offsets
            self._offsets.clear()
        self._records = 0

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.flush()
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._consumer.forget(partitions)
        self._offsets.clear()
        self._committed.clear()

    def report(self) -> FollowReport:
        """The result so far."""
        return FollowReport(list(self._built.values()), self.unreadable, self.others)

    def _add(self, message: Message) -> None:
        self._records += 1
        self._offsets[message.topic(), message.partition()] = message.offset() + 1
        # The indexer or the label joiner turns unreadable records into dead letters.
        try:
            if message.topic() == self._labels:
                reported = read_label(message)
                self._count("label", reported.model)
                if builder := self._builders.get(reported.model):
                    builder.add_label(reported.request_id, reported.observed_at, _value(reported.label))
            else:
                logged = decode_log(message.value() or b"")
                self._count("request", logged.model)
                if builder := self._builders.get(logged.model):
                    redacted = bool(logged.redacted)
                    builder.add_request(logged.request_id, logged.accepted_at, logged.features, redacted=redacted)
        except (msgspec.MsgspecError, InvalidLabel, LabelTooLarge, UnicodeDecodeError, RecursionError, OverflowError):
            self.unreadable += 1
            self._metrics.records.labels("unreadable").inc()

    def _count(self, what: str, model: str) -> None:
        known = model in self._builders
        self.others += not known
        self._metrics.records.labels(what if known else "other_model").inc()


def _value(raw: msgspec.Raw) -> Any:
    try:
        return parse(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Not a label of any model; it is counted as refused.
        return msgspec.UNSET


def run(settings: FeatureIngestSettings, classes: Mapping[str, type[MLEModel]], *, every: float = 60.0) -> FollowReport:
    """Follow the stream until SIGTERM or SIGINT.

    Raises:
        FeatureStoreError: the store can't be read or written.
        KafkaException: a permanent error of Kafka.
        OSError: the metrics port is taken.
    """
    home = settings.home / "features"
    registry = CollectorRegistry()
    metrics = FeatureMetrics(registry)

    def work(stopping: threading.Event) -> FollowReport:
        with FeatureStore(home) as store:
            run_until_ready("features", lambda: prepare_topics("features", settings, reads=(LOGS, LABELS)), stopping)
            follower = Follower(settings, store, classes, home / "examples", every=every, metrics=metrics)
            follower.run(stopping)
            return follower.report()

    served = registry, settings.features_metrics_port
    return run_process("features", settings, work, served, models=sorted(classes), store=str(home))

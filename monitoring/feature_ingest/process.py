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
from confluent_kafka import Consumer, Message
from msgspec import Struct

from machine_learning_engineering.events.labels import InvalidLabel, LabelTooLarge, read_label
from machine_learning_engineering.events.schemas import decode_log, parse
from machine_learning_engineering.events.topics import LABELS, LOGS
from machine_learning_engineering.feature_store.examples import BuildReport, ExampleBuilder
from machine_learning_engineering.feature_store.store import FeatureStore
from machine_learning_engineering.kafka.client import IdlePausingConsumer, create_topics, topic_name
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.sdk import MLEModel
from machine_learning_engineering.settings import KernelSettings
from monitoring.runtime.consumer import Position, commit, group_options, records
from monitoring.runtime.groups import FEATURES
from monitoring.runtime.process import run_process
from monitoring.runtime.retry import CREATE_TOPICS_TIMEOUT, run_until_ready

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
        settings: KernelSettings,
        store: FeatureStore,
        classes: Mapping[str, type[MLEModel]],
        folder: Path,
        *,
        every: float = 60.0,
    ) -> None:
        self.unreadable = self.others = 0
        self._every = every
        self._folder = folder
        self._builders = {name: ExampleBuilder(store, model_class) for name, model_class in classes.items()}
        self._built: dict[str, BuildReport] = {}
        self._offsets: dict[Position, int] = {}
        self._records = 0
        self._labels = topic_name(settings, LABELS)
        self._consumer = Consumer(group_options(settings, FEATURES))
        self._fetch = IdlePausingConsumer(self._consumer, settings.kafka_idle_pause)
        # Before partitions are revoked, what was read from them is flushed and committed.
        self._consumer.subscribe(
            [topic_name(settings, LOGS), self._labels],
            on_revoke=lambda *_: self.flush(),
            on_lost=lambda *_: self._offsets.clear(),
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
                    self.flush()
                    due = monotonic() + self._every
            self.flush()
        finally:
            self._consumer.close()

    def flush(self) -> None:
        """Write what was read to the store, write the examples of models that may lack it, and commit."""
        for name, builder in self._builders.items():
            builder.flush()
            if builder.is_dirty:
                built = self._built[name] = builder.write_examples(self._folder / name)
                log_event("features", "kept", **msgspec.structs.asdict(built))
        # Not earlier: committed records are not reread, and would be missing in the examples until new ones arrive.
        if self._offsets:
            # If that fails, the next owner of the partition rereads the records and finds them in the store.
            commit(self._consumer, self._offsets, "features")
            self._offsets.clear()
        self._records = 0

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
                if builder := self._builder(reported.model):
                    builder.add_label(reported.request_id, reported.observed_at, _value(reported.label))
            else:
                logged = decode_log(message.value() or b"")
                if builder := self._builder(logged.model):
                    redacted = bool(logged.redacted)
                    builder.add_request(logged.request_id, logged.accepted_at, logged.features, redacted=redacted)
        except (msgspec.MsgspecError, InvalidLabel, LabelTooLarge, UnicodeDecodeError, RecursionError, OverflowError):
            self.unreadable += 1

    def _builder(self, model: str) -> ExampleBuilder | None:
        found = self._builders.get(model)
        self.others += found is None
        return found


def _value(raw: msgspec.Raw) -> Any:
    try:
        return parse(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Not a label of any model; it is counted as refused.
        return msgspec.UNSET


def run(settings: KernelSettings, classes: Mapping[str, type[MLEModel]], *, every: float = 60.0) -> FollowReport:
    """Follow the stream until SIGTERM or SIGINT.

    Raises:
        FeatureStoreError: the store can't be read or written.
        KafkaException: a permanent error of Kafka.
    """
    home = settings.home / "features"

    def work(stopping: threading.Event) -> FollowReport:
        with FeatureStore(home) as store:
            run_until_ready("features", lambda: create_topics(settings, CREATE_TOPICS_TIMEOUT), stopping)
            follower = Follower(settings, store, classes, home / "examples", every=every)
            follower.run(stopping)
            return follower.report()

    return run_process("features", settings, work, models=sorted(classes), store=str(home))

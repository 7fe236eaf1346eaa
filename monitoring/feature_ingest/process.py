"""`inflight features follow`: logged requests and reported labels into the feature store, as they come.

Offsets are committed only after the store has the rows safely on disk, and the examples have them too. What is read
again after a crash is found to be in the store already, and the examples are written all the same.
"""

from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
from confluent_kafka import Consumer, Message
from msgspec import Struct

from machine_learning_engineering.events.schemas import decode_label, decode_log, parse
from machine_learning_engineering.events.topics import LABELS, LOGS
from machine_learning_engineering.feature_store.examples import BuildReport, ExampleBuilder
from machine_learning_engineering.feature_store.store import FeatureStore
from machine_learning_engineering.kafka.client import Fetch, consumer_options, create_topics, topic_name
from machine_learning_engineering.observability.logging import log_event
from machine_learning_engineering.sdk import MLEModel
from machine_learning_engineering.settings import KernelSettings
from monitoring.runtime.consumer import commit, records
from monitoring.runtime.process import until_signalled
from monitoring.runtime.retry import TOPIC_SECONDS, prepare

GROUP = "inflight-features"
_BATCH = 500
_POLL_SECONDS = 0.25


class Followed(Struct, frozen=True):
    """What was done until now: of each model, and how many records were no events or of models not followed."""

    models: list[BuildReport]
    unreadable: int
    others: int


class Follower:
    """Consumes logs and labels, and keeps them in the store every `every` seconds or `most` records.

    Args:
        classes: the models whose records are kept, by name.
        folder: below it each model's examples are written to a folder of its own name, whenever there are new ones.
    """

    def __init__(
        self,
        settings: KernelSettings,
        store: FeatureStore,
        classes: Mapping[str, type[MLEModel]],
        folder: Path,
        *,
        every: float = 60.0,
        most: int = 10_000,
    ) -> None:
        self.unreadable = self.others = 0
        self._every, self._most = every, most
        self._folder = folder
        self._builders = {name: ExampleBuilder(store, model_class) for name, model_class in classes.items()}
        self._built: dict[str, BuildReport] = {}
        self._offsets: dict[tuple[str, int], int] = {}
        self._records = 0
        self._labels = topic_name(settings, LABELS)
        self._consumer = Consumer(consumer_options(settings, GROUP))
        self._fetch = Fetch(self._consumer, settings.kafka_idle_pause)
        # What a rebalance takes away is kept, and committed, before it goes.
        self._consumer.subscribe(
            [topic_name(settings, LOGS), self._labels],
            on_revoke=lambda *_: self.flush(),
            on_lost=lambda *_: self._offsets.clear(),
        )

    def run(self, stopping: Any) -> None:
        """Follow until the event `stopping` is set; then keep what was read.

        Raises:
            FeatureStoreError: the store can't be written.
            KafkaException: an error that retrying does not mend.
        """
        due = monotonic() + self._every
        try:
            while not stopping.is_set():
                for message in records(self._fetch.consume(_BATCH, _POLL_SECONDS), "features"):
                    self._add(message)
                if self._records >= self._most or monotonic() >= due:
                    self.flush()
                    due = monotonic() + self._every
            self.flush()
        finally:
            self._consumer.close()

    def flush(self) -> None:
        """Bring what was read into the store, write the examples of models that may lack some of it, and commit it."""
        for name, builder in self._builders.items():
            builder.flush()
            if builder.is_dirty:
                built = self._built[name] = builder.write_examples(self._folder / name)
                log_event("features", "kept", **msgspec.structs.asdict(built))
        # Only now: what is committed is not read again, and would stay out of the examples until something new comes.
        if self._offsets:
            # Where that fails, the records are read again by whoever owns the partition next, and found in the store.
            commit(self._consumer, self._offsets, "features")
            self._offsets.clear()
        self._records = 0

    def report(self) -> Followed:
        """What was done until now."""
        return Followed(list(self._built.values()), self.unreadable, self.others)

    def _add(self, message: Message) -> None:
        self._records += 1
        self._offsets[message.topic(), message.partition()] = message.offset() + 1
        value = message.value() or b""
        # What is no event is made a dead letter by the indexer or the joiner.
        try:
            if message.topic() == self._labels:
                reported = decode_label(value)
                if builder := self._builder(reported.model):
                    builder.add_label(reported.request_id, reported.observed_at, _value(reported.label))
            else:
                logged = decode_log(value)
                if builder := self._builder(logged.model):
                    redacted = bool(logged.redacted)
                    builder.add_request(logged.request_id, logged.accepted_at, logged.features, redacted=redacted)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self.unreadable += 1

    def _builder(self, model: str) -> ExampleBuilder | None:
        found = self._builders.get(model)
        self.others += found is None
        return found


def _value(raw: msgspec.Raw) -> Any:
    try:
        return parse(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # No label of any model, and counted as refused.
        return msgspec.UNSET


def run(settings: KernelSettings, classes: Mapping[str, type[MLEModel]], *, every: float = 60.0) -> Followed:
    """Follow the stream until SIGTERM or SIGINT, however long the broker takes to come up.

    Raises:
        FeatureStoreError: the store can't be read or written.
        KafkaException: Kafka refuses for good.
    """
    home = settings.home / "features"
    with until_signalled() as stopping, FeatureStore(home) as store:
        prepare("features", lambda: create_topics(settings, TOPIC_SECONDS), stopping)
        follower = Follower(settings, store, classes, home / "examples", every=every)
        log_event(
            "features", "started", models=sorted(classes), kafka=settings.kafka_bootstrap_servers, store=str(home)
        )
        follower.run(stopping)
        log_event("features", "stopped")
        return follower.report()

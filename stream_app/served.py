"""Which models a worker serves, and how a new champion takes the place of the old one while requests flow."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from machine_learning_engineering.model import MLEModel
from machine_learning_engineering.registry import Registry, RegistryError
from machine_learning_engineering.settings import Settings
from machine_learning_engineering.stream.kafka import Fetch, consumer_options, topic_name
from machine_learning_engineering.stream.topics import MODEL_EVENTS
from stream_app.metrics import WorkerMetrics
from stream_app.scoring import Model

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5


class ServedModels:
    """The champions of a registry, opened. A version that can't be opened is refused, and the one before goes on."""

    def __init__(self, registry: Registry, classes: Mapping[str, type[MLEModel]]) -> None:
        self._registry = registry
        self._classes = classes
        self._refused: set[tuple[str, str]] = set()
        self.models: dict[str, Model] = {}

    def open_all(self) -> dict[str, Model]:
        """Open every champion; for the start of a worker.

        Raises:
            RegistryError: one can't be opened.
            SystemExit: there is none, with the command that makes one.
        """
        self.models = {
            name: self._registry.open(name, model_class=self._classes[name])
            for name in self._registry.champions()
            if name in self._classes
        }
        if not self.models:
            raise SystemExit(f"there is no trained model in {self._registry.path}: run `inflight train` first")
        return self.models

    def refresh(self) -> tuple[list[str], list[str]]:
        """Open what was promoted since the last look. Returns the names that changed, and those that were refused.

        `models` is replaced as a whole, so that a round of scoring sees either the old ones or the new ones.
        """
        changed, refused = [], []
        for name, version in self._registry.champions().items():
            served = self.models.get(name)
            if name not in self._classes or (served is not None and served.version == version):
                continue
            try:
                opened: Model = self._registry.open(name, version, model_class=self._classes[name])
            except RegistryError as error:
                # Said once for each version, but tried again: its files may still be on their way here.
                if (name, version) not in self._refused:
                    refused.append(name)
                    going_on = f"{served.version} goes on" if served else "it is not served"
                    logger.error("%s %s was promoted but can't be opened; %s: %s", name, version, going_on, error)
                self._refused.add((name, version))
                continue
            self.models = {**self.models, name: opened}
            changed.append(name)
        return changed, refused


class Promotions(threading.Thread):
    """Listens to the topic of model events from now on and tells of each record; the registry knows the rest."""

    def __init__(self, settings: Settings, on_event: Callable[[], None]) -> None:
        super().__init__(name="inflight-promotions", daemon=True)
        # No group: every worker has to hear of it. Nothing is committed.
        self._consumer = Consumer(consumer_options(settings, "inflight-promotions"))
        self._fetch = Fetch(self._consumer, settings.kafka_idle_pause)
        topic = topic_name(settings, MODEL_EVENTS)
        partitions = self._consumer.list_topics(topic, 10).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, number, OFFSET_END) for number in partitions])
        self._on_event = on_event
        self._stopping = threading.Event()

    def run(self) -> None:
        """Listen until stopped. (Called by the thread.)"""
        while not self._stopping.is_set():
            for message in self._fetch.consume(10, POLL_SECONDS):
                if message.error() is None:
                    self._on_event()
        self._consumer.close()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self.join()


class ModelWatch:
    """Serves new champions: at once when the stream says so, and otherwise at the next look into the registry."""

    def __init__(
        self, app: Any, served: ServedModels, serve: Callable[[Mapping[str, Model]], None], metrics: WorkerMetrics
    ) -> None:
        self._app = app
        self._served = served
        self._serve = serve
        self._metrics = metrics

    async def run(self, settings: Settings) -> None:
        """Look until the app stops."""
        loop, told = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            loop.call_soon_threadsafe(told.set)

        promotions = await asyncio.to_thread(Promotions, settings, tell)
        promotions.start()
        try:
            while not self._app.should_stop:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(told.wait(), settings.worker_model_poll)
                told.clear()
                await self.look()
        finally:
            await asyncio.to_thread(promotions.stop)

    async def look(self) -> None:
        """Serve what was promoted since the last look."""
        before = self._served.models
        try:
            changed, refused = await asyncio.to_thread(self._served.refresh)
        except (RegistryError, OSError) as error:
            logger.warning("the registry can't be read, the models stay as they are: %s", error)
            return
        self._metrics.models_refused.inc(len(refused))
        if not changed:
            return
        self._serve(self._served.models)
        for name in changed:
            old, new = before.get(name), self._served.models[name]
            if old is not None:
                self._metrics.model.remove(name, old.version)
            self._metrics.model.labels(name, new.version).set(1)
            logger.info("serving %s %s%s", name, new.version, f" in place of {old.version}" if old else "")

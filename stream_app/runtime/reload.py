"""Reloading models when a champion changes."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import OFFSET_END, Consumer, TopicPartition

from machine_learning_engineering.events.topics import MODEL_EVENTS
from machine_learning_engineering.kafka.client import Fetch, consumer_options, topic_name
from machine_learning_engineering.registry.manifest import RegistryError
from stream_app.runtime.metrics import WorkerMetrics
from stream_app.runtime.models import LoadedModels, logger
from stream_app.serving.scorer import Model
from stream_app.settings import WorkerSettings

POLL_SECONDS = 0.5


class PromotionListener(threading.Thread):
    """Listens to the topic of model events from now on and tells of each record; the registry knows the rest."""

    def __init__(self, settings: WorkerSettings, on_event: Callable[[], None]) -> None:
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


class ModelReloader:
    """Serves new champions: at once when the stream says so, and otherwise at the next look into the registry."""

    def __init__(
        self, app: Any, served: LoadedModels, serve: Callable[[Mapping[str, Model]], None], metrics: WorkerMetrics
    ) -> None:
        self._app = app
        self._served = served
        self._serve = serve
        self._metrics = metrics

    async def run(self, settings: WorkerSettings) -> None:
        """Look until the app stops."""
        loop, told = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            loop.call_soon_threadsafe(told.set)

        promotions = await asyncio.to_thread(PromotionListener, settings, tell)
        promotions.start()
        try:
            while not self._app.should_stop:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(told.wait(), settings.worker_model_poll_interval)
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

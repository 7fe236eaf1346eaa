"""Puts new champions, and the arms of rollouts, into service while requests flow."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

from machine_learning_engineering.core.error_text import describe_origin
from machine_learning_engineering.events.topics import MODEL_EVENTS
from machine_learning_engineering.kafka.broker_check import NoBrokersLeftError, broker_check_options
from machine_learning_engineering.kafka.client import consumer_options, partition_ends, topic_name
from machine_learning_engineering.kafka.idle import IdlePausingConsumer
from machine_learning_engineering.kafka.positions import is_unreadable, skip_unreadable
from machine_learning_engineering.registry.manifest import RegistryError
from stream_app.runtime.metrics import WorkerMetrics
from stream_app.runtime.models import LoadedModels
from stream_app.serving.scorer import Model
from stream_app.settings import WorkerSettings

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5


class PromotionListener(threading.Thread):
    """Calls `on_event`, from its own thread, for each new record on the topic of model events.

    The record's content is not read: the registry is the source of truth.
    """

    def __init__(self, settings: WorkerSettings, on_event: Callable[[], None]) -> None:
        super().__init__(name="inflight-promotions", daemon=True)
        self._settings = settings
        self._on_event = on_event
        self._stopping = threading.Event()
        self._consumer = self._connect()

    def _connect(self) -> Consumer:
        """A new client, at the end of the topic.

        Raises:
            KafkaException: the broker is unreachable.
        """
        self._options = {**broker_check_options(), **consumer_options(self._settings, "inflight-promotions")}
        consumer = Consumer(self._options)
        try:
            topic = topic_name(self._settings, MODEL_EVENTS)
            numbers = consumer.list_topics(topic, 10).topics[topic].partitions
            partitions = [TopicPartition(topic, number) for number in numbers]
            # Asked now: the client would look for the end at its first fetch, and miss what is published until then.
            for partition in partitions:
                _, partition.offset = partition_ends(consumer, partition, 10)
            # Assigned, not subscribed: every worker has to receive every event. Nothing is committed.
            consumer.assign(partitions)
        except BaseException:
            consumer.close()
            raise
        return consumer

    def run(self) -> None:
        """Listen until stopped. `start` has the thread call this."""
        while not self._stopping.is_set():
            try:
                self._listen()
            except NoBrokersLeftError as error:
                logger.warning("promotion events: %s", error)
                with contextlib.suppress(NoBrokersLeftError):
                    self._consumer.close()
                self._reconnect()
        self._consumer.close()

    def _listen(self) -> None:
        fetch = IdlePausingConsumer(self._consumer, self._settings.kafka_idle_pause, patient=True)
        while not self._stopping.is_set():
            for message in fetch.consume(10, POLL_SECONDS):
                if message.error() is None:
                    self._on_event()
                elif is_unreadable(message):
                    skip_unreadable(self._consumer, self._options, message)
                    self._on_event()

    def _reconnect(self) -> None:
        while not self._stopping.is_set():
            # A failed attempt has waited for the broker already.
            with contextlib.suppress(KafkaException):
                self._consumer = self._connect()
                # An event may have been missed.
                self._on_event()
                return

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._stopping.set()
        self.join()


class ModelReloader:
    """Loads new champions: at once after a promotion event, and otherwise at the next poll of the registry.

    Args:
        app: the Faust app; reloading ends with it.
        loaded: the models in service.
        serve: called with all models, on the event loop, when one or an arm has changed.
    """

    def __init__(
        self, app: Any, loaded: LoadedModels, serve: Callable[[Mapping[str, Model]], None], metrics: WorkerMetrics
    ) -> None:
        self._app = app
        self._loaded = loaded
        self._serve = serve
        self._metrics = metrics

    async def run(self, settings: WorkerSettings) -> None:
        """Reload until the app stops."""
        loop, notified = asyncio.get_running_loop(), asyncio.Event()

        def notify() -> None:
            loop.call_soon_threadsafe(notified.set)

        promotions = await asyncio.to_thread(PromotionListener, settings, notify)
        promotions.start()
        # What changed since the models were opened may have been announced before the listener was at the end.
        notified.set()
        try:
            while not self._app.should_stop:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(notified.wait(), settings.worker_model_poll_interval)
                notified.clear()
                await self.reload()
        finally:
            await asyncio.to_thread(promotions.stop)

    async def reload(self) -> None:
        """Serve what was promoted and rolled out since the last call.

        An unreadable registry is logged, and changes nothing.
        """
        before = self._loaded.models
        try:
            changed, refused = await asyncio.to_thread(self._loaded.refresh)
        except Exception as error:
            cause = error if isinstance(error, (RegistryError, OSError)) else describe_origin(error)
            logger.warning("the registry can't be read, the models stay as they are: %s", cause)
            self._metrics.registry_unreadable.set(1)
            return
        self._metrics.registry_unreadable.set(bool(self._loaded.registry_problem))
        self._metrics.models_refused.inc(len(refused))
        for name in self._loaded.models.keys() | self._loaded.refused:
            self._metrics.model_refused.labels(name).set(name in self._loaded.refused)
        self._metrics.show_rollouts(self._loaded.rollouts)
        if not changed and not self._loaded.has_new_arms:
            return
        self._serve(self._loaded.models)
        for name in changed:
            old, new = before.get(name), self._loaded.models[name]
            if old is not None:
                self._metrics.model.remove(name, old.version)
            self._metrics.model.labels(name, new.version).set(1)
            logger.info("serving %s %s%s", name, new.version, f" in place of {old.version}" if old else "")

"""Publishing what a slice caused, as one unit: all of its outputs are acknowledged, or the slice is not."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka import Producer as KafkaProducer
from faust.transport import base
from faust.types import TP, RecordMetadata

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 25.0


class Output(NamedTuple):
    """A record to be published."""

    topic: str
    key: bytes | None
    value: bytes
    headers: list[tuple[str, bytes]] | None = None


class _Unit:
    """Counts the delivery reports of one slice's outputs."""

    __slots__ = ("_done", "_error", "_missing")

    def __init__(self, count: int, done: Callable[[KafkaError | None], None]) -> None:
        self._missing = count
        self._done = done
        self._error: KafkaError | None = None

    def __call__(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._error = error
        self._missing -= 1
        if self._missing == 0:
            self._done(self._error)


class Publisher:
    """An idempotent producer with a thread that serves delivery reports. `publish` may be called from any one thread.

    Options are librdkafka's; see `machine_learning_engineering.kafka.producer_options`.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._producer = KafkaProducer({**options, "error_cb": self._error})
        self._stopping = threading.Event()
        self._reports = threading.Thread(target=self._serve_reports, name="inflight-reports", daemon=True)
        self._reports.start()

    def publish(self, outputs: Iterable[Output], done: Callable[[KafkaError | None], None]) -> None:
        """Publish `outputs`; `done` is called once, in another thread, when each is acknowledged or one has failed.

        Blocks while the producer's own queue is full, so that memory stays bounded when the broker is slow.

        Raises:
            KafkaException: a record can't be published at all, such as one above the size limit.
        """
        records = list(outputs)
        if not records:
            done(None)
            return
        unit = _Unit(len(records), done)
        produce = self._producer.produce
        for topic, key, value, headers in records:
            while True:
                try:
                    if headers:
                        produce(topic, value, key, headers=headers, on_delivery=unit)
                    else:
                        produce(topic, value, key, on_delivery=unit)
                    break
                except BufferError:
                    self._producer.poll(0.1)

    def unacknowledged(self) -> int:
        """Records that wait for the broker's acknowledgement."""
        return len(self._producer)

    def stop(self) -> int:
        """Wait, within a bound, for all acknowledgements; return how many are missing."""
        missing: int = self._producer.flush(FLUSH_SECONDS)
        self._stopping.set()
        self._reports.join()
        return missing

    def _serve_reports(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(0.1)

    def _error(self, error: KafkaError) -> None:
        logger.warning("Kafka: %s", error)


class Producer(base.Producer):  # type: ignore[misc]
    """Faust's producer interface, so that ``topic.send`` works in an agent."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.publisher: Publisher = self.transport.options.publisher

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: Any,
        *,
        transactional_id: str | None = None,
    ) -> Awaitable[RecordMetadata]:
        """Publish one record; the awaitable ends when it is acknowledged, or raises KafkaException."""
        loop = asyncio.get_running_loop()
        acknowledged: asyncio.Future[RecordMetadata] = loop.create_future()

        def done(error: KafkaError | None) -> None:
            loop.call_soon_threadsafe(finish, error)

        def finish(error: KafkaError | None) -> None:
            if acknowledged.done():
                return
            if error is not None:
                acknowledged.set_exception(KafkaException(error))
            else:
                acknowledged.set_result(RecordMetadata(topic, -1, TP(topic, -1), -1))

        pairs = list(headers.items()) if isinstance(headers, dict) else list(headers or ())
        self.publisher.publish([Output(topic, key, value or b"", pairs)], done)
        return acknowledged

    async def send_and_wait(self, *args: Any, **kwargs: Any) -> RecordMetadata:
        """Publish one record and wait for its acknowledgement."""
        return await (await self.send(*args, **kwargs))

    async def flush(self) -> None:
        """Nothing: a slice is finished only after its outputs were acknowledged."""

    async def create_topic(self, *args: Any, **kwargs: Any) -> None:
        """Topics are made by `machine_learning_engineering.kafka.create_topics`."""

    def supports_headers(self) -> bool:
        """Kafka has had record headers since 0.11."""
        return True

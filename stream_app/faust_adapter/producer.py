"""Faust's producer interface over the publisher, so that ``topic.send`` works in an agent."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from faust.transport import base
from faust.types import TP, RecordMetadata

from stream_app.kafka.publisher import ANY_PARTITION, Publisher, Record


class Producer(base.Producer):  # type: ignore[misc]
    """A Faust producer whose records are acknowledged by all replicas."""

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

        record: Record = {"key": key, "value": value}
        if headers:
            record["headers"] = list(headers.items()) if isinstance(headers, dict) else list(headers)
        self.publisher.publish({topic: [record]}, ANY_PARTITION if partition is None else partition, done)
        return acknowledged

    async def send_and_wait(self, *args: Any, **kwargs: Any) -> RecordMetadata:
        """Publish one record and wait for its acknowledgement."""
        return await (await self.send(*args, **kwargs))

    async def flush(self) -> None:
        """Nothing: a slice is finished only after its outputs were acknowledged."""

    async def create_topic(self, *args: Any, **kwargs: Any) -> None:
        """Topics are made by `machine_learning_engineering.kafka.client.create_topics`."""

    def supports_headers(self) -> bool:
        """Kafka has had record headers since 0.11."""
        return True

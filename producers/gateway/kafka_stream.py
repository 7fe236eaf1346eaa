"""The gateway's `Stream` on Kafka: a sender, a tail and what is recalled of it."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from kafka import KafkaProducer

from machine_learning_engineering.events.topics import LABELS, MAX_MESSAGE_BYTES, REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import topic_name
from producers.client import disconnect, partition_of, producer_options
from producers.gateway.recall import Entry, Recall, Seen
from producers.gateway.sender import Sender
from producers.gateway.settings import GatewaySettings
from producers.gateway.stream import NewRequest, NotAccepted
from producers.gateway.tail import Tail, read_at
from producers.publisher import Publisher

CLOSE_SECONDS = 3.0


class KafkaStream:
    """See `Stream`. Made in a running event loop.

    Args:
        settings: of the gateway.
    """

    def __init__(self, settings: GatewaySettings) -> None:
        self._settings = settings
        self._requests, self._labels = topic_name(settings, REQUESTS), topic_name(settings, LABELS)
        self._loop = asyncio.get_running_loop()
        self.recall = Recall(settings.gateway_recall_requests, settings.gateway_recall_bytes)
        self._reading = "the broker has not responded yet"
        self._sender = Sender(partial(_publisher, settings), settings.gateway_send_timeout)
        self._tail = Tail(settings, self._deliver, self._report)

    @property
    def problem(self) -> str:
        """See `Stream.problem`."""
        return self._reading or ("" if self._sender.connected else "the producer is not connected to the broker")

    def known(self, request_id: str) -> Entry | None:
        """See `Stream.known`."""
        return self.recall.get(request_id)

    def claim(self, request_id: str, model: str, fingerprint: str) -> "asyncio.Future[Entry]":
        """See `Stream.claim`."""
        return self.recall.claim(request_id, model, fingerprint)

    def release(self, request_id: str, future: "asyncio.Future[Entry]", *, published: bool) -> None:
        """See `Stream.release`."""
        self.recall.release(request_id, future, published=published)

    async def publish(self, requests: Sequence[NewRequest]) -> list[NotAccepted | None]:
        """See `Stream.publish`. The same key always goes to the same partition, whichever gateway publishes it."""
        count = self._tail.partitions
        sends = (
            self._sender.send(self._requests, one.key, one.value, one.headers, partition_of(one.key, count))
            for one in requests
        )
        return list(map(_refusal, await asyncio.gather(*sends, return_exceptions=True)))

    async def publish_label(self, key: bytes, value: bytes) -> None:
        """See `Stream.publish_label`."""
        await self._sender.send(self._labels, key, value)

    async def read_result(self, entry: Entry) -> bytes | None:
        """See `Stream.read_result`."""
        if entry.result is not None or entry.position is None:
            return entry.result
        record = await asyncio.to_thread(read_at, self._settings, RESULTS, entry.position)
        return None if record is None else record.value()

    def close(self) -> None:
        """End the threads."""
        self._tail.close(CLOSE_SECONDS)
        self._sender.close(CLOSE_SECONDS)

    def _deliver(self, found: list[Seen]) -> None:
        self._loop.call_soon_threadsafe(self.recall.note, found)

    def _report(self, problem: str) -> None:
        self._loop.call_soon_threadsafe(self._set_reading, problem)

    def _set_reading(self, problem: str) -> None:
        self._reading = problem


def _refusal(outcome: BaseException | None) -> NotAccepted | None:
    if outcome is None or isinstance(outcome, NotAccepted):
        return outcome
    raise outcome


def _publisher(settings: GatewaySettings, on_delivery: Callable[..., None]) -> Publisher:
    seconds = settings.gateway_send_timeout
    milliseconds = int(seconds * 1000)
    options = producer_options(settings) | {
        "delivery_timeout_ms": milliseconds,
        "request_timeout_ms": milliseconds,
        "max_block_ms": milliseconds,
        "bootstrap_timeout_ms": milliseconds,
        # A broker that was away is found again within a second, and so are new partitions.
        "reconnect_backoff_max_ms": 1_000,
        "metadata_max_age_ms": 2_000,
        "max_request_size": MAX_MESSAGE_BYTES,
    }
    return Publisher(lambda: KafkaProducer(**options), disconnect=disconnect, on_delivery=on_delivery, timeout=seconds)

"""Writes calls of the API to their topic, in a thread of its own: no answer waits for it, or fails with it."""

import logging
import threading
import time
from collections import deque

from confluent_kafka import KafkaError, KafkaException, Message, Producer
from msgspec import UnsetType

from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.topics import API_CALLS
from machine_learning_engineering.kafka.client import producer_options, topic_name
from machine_learning_engineering.kafka.connection import error_logger
from machine_learning_engineering.observability.rate_limit import RATE_LIMITED
from machine_learning_engineering.observability.trace import TRACEPARENT
from producers.gateway.call_events import CallEvents
from producers.gateway.calls import Call
from producers.gateway.metrics import CallMetrics
from producers.gateway.settings import GatewaySettings

logger = logging.getLogger(__name__)

# Calls are collected for so long: a thread that wakes for each would compete with the event loop.
_LINGER_SECONDS = 0.02
_POLL_SECONDS = 0.25
_MAX_CALLS = 100_000


class CallLog:
    """A bounded buffer, and the thread that empties it. What does not fit is lost and counted.

    Args:
        settings: of the gateway.
        encode: makes the events.
        metrics: counts what was written and lost.
    """

    def __init__(self, settings: GatewaySettings, encode: CallEvents, metrics: CallMetrics) -> None:
        # Half of the memory is for calls, half for their records that the broker has not acknowledged.
        self._max_bytes = settings.gateway_call_buffer_bytes // 2
        self._topic = topic_name(settings, API_CALLS)
        options = producer_options(settings)
        self._options = options | {
            "error_cb": error_logger(options),
            "queue.buffering.max.kbytes": max(1, self._max_bytes // 1024),
        }
        self._encode = encode
        self._metrics = metrics
        self._calls: deque[Call] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name="inflight-gateway-calls", daemon=True)
        self._thread.start()

    def add(self, call: Call) -> None:
        """Take over a call; returns at once. For the event loop."""
        size = call.size
        with self._lock:
            full = self._bytes + size > self._max_bytes or len(self._calls) >= _MAX_CALLS
            if not full:
                self._bytes += size
                self._calls.append(call)
        if full:
            self._metrics.lost("buffer_full")
        elif not self._wake.is_set():
            self._wake.set()

    def close(self, timeout: float) -> None:
        """Write what is buffered, for at most `timeout` seconds; the rest is lost."""
        self._deadline = time.monotonic() + timeout
        self._stopping.set()
        self._wake.set()
        self._thread.join(timeout + 1)

    def _run(self) -> None:
        producer = Producer(self._options)
        while not self._stopping.is_set():
            self._wake.wait(_POLL_SECONDS)
            if self._wake.is_set():
                self._stopping.wait(_LINGER_SECONDS)
                self._wake.clear()
            self._empty(producer)
            producer.poll(0)
        self._empty(producer)
        producer.flush(max(0.0, self._deadline - time.monotonic()))
        self._metrics.lost("stopped", len(producer) + len(self._calls))

    def _empty(self, producer: Producer) -> None:
        while self._calls and time.monotonic() < self._deadline:
            with self._lock:
                call = self._calls.popleft()
                self._bytes -= call.size
            try:
                event = self._encode(call)
                value = events.encode(event)
            except Exception:
                # One call must not end the log of all others.
                logger.exception("a call could not be encoded", extra=RATE_LIMITED)
                self._metrics.lost("internal_error")
                continue
            key = event.call_id if isinstance(event.request_id, UnsetType) else event.request_id
            headers = {TRACEPARENT: call.traceparent.encode()} if call.traceparent else None
            self._produce(producer, value, key.encode(), headers)

    def _produce(self, producer: Producer, value: bytes, key: bytes, headers: dict[str, bytes] | None) -> None:
        while True:
            try:
                producer.produce(self._topic, value, key, headers=headers, on_delivery=self._on_delivery)
                return
            except BufferError:
                # The broker is behind or away: meanwhile the buffer fills, and then calls are lost.
                if time.monotonic() >= self._deadline:
                    self._metrics.lost("stopped")
                    return
                producer.poll(_POLL_SECONDS)
            except KafkaException as error:
                self._give_up(error.args[0])
                return

    def _on_delivery(self, error: KafkaError | None, _message: Message) -> None:
        if error is None:
            self._metrics.written.inc()
        else:
            self._give_up(error)

    def _give_up(self, error: KafkaError) -> None:
        too_large = error.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE)
        self._metrics.lost("too_large" if too_large else "not_delivered")
        logger.warning("a call was not written to %s: %s", self._topic, error.str(), extra=RATE_LIMITED)

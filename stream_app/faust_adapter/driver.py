"""The Faust transport: the consumer and producer of a `BatchApp`, and their options."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import faust
from faust.transport import base

from machine_learning_engineering.kafka.positions import OffsetReset
from stream_app.faust_adapter.consumer import Consumer
from stream_app.faust_adapter.producer import Producer


@dataclass(frozen=True)
class TransportOptions:
    """Options of the transport beside Faust's settings.

    Attributes:
        consumer: librdkafka's options of the consumer.
        max_batch_records: maximum number of records of a partition batch, and of a poll.
        buffer_bytes: fetching pauses while fetched and unfinished batches take more memory, in bytes.
        max_in_flight: maximum number of unfinished batches that Faust holds.
        batch_limit: returns the maximum number of records of the next batch; called on the event loop for each one.
        on_failed: called with the reason, in the consumer's own thread, when that thread failed; has to end the
            process.
        idle_pause: seconds; see `machine_learning_engineering.kafka.idle.IdlePausingConsumer`.
        on_statistics: called with librdkafka's statistics, in the consumer's own thread.
        on_reset: called in that thread when a partition is read from another offset.
        on_unreadable: called in that thread with the partition of a batch that was skipped.
        sources: topics of others that are read; see `GroupStarts`.
    """

    consumer: dict[str, Any]
    max_batch_records: int
    buffer_bytes: int
    max_in_flight: int
    batch_limit: Callable[[], int]
    on_failed: Callable[[str], None]
    idle_pause: float
    on_statistics: Callable[[dict[str, Any]], None]
    on_reset: Callable[[OffsetReset], None]
    on_unreadable: Callable[[int], None]
    sources: Mapping[str, str] = field(default_factory=dict)


class Transport(base.Transport):  # type: ignore[misc]
    """Faust's factory of consumers and producers."""

    Consumer: ClassVar[type[Consumer]] = Consumer
    Producer: ClassVar[type[Producer]] = Producer
    default_port = 9092
    driver_version = "inflight batches over librdkafka"

    def __init__(self, *args: Any, options: TransportOptions, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.options = options


class BatchApp(faust.App):  # type: ignore[misc]
    """A Faust app whose events are partition batches."""

    def __init__(self, *args: Any, options: TransportOptions, **kwargs: Any) -> None:
        self.transport_options = options
        super().__init__(*args, **kwargs)

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self, options=self.transport_options)

    _new_producer_transport = _new_transport

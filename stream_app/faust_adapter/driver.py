"""The Faust transport: which consumer and producer an app uses."""

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import faust
from faust.transport import base

from stream_app.faust_adapter.consumer import Consumer
from stream_app.faust_adapter.producer import Producer
from stream_app.kafka.publisher import Publisher

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TransportOptions:
    """What the transport needs beside Faust's settings: librdkafka options, and bounds in records and bytes.

    Faust holds at most `slices_handed_out` that are not finished; each has at most `records_now()` records, asked anew
    each time, and never more than `slice_records`. `on_failed` is called, in the consumer's own thread, when that can't
    go on; it has to end the process.
    """

    consumer: dict[str, Any]
    publisher: Publisher
    slice_records: int
    buffer_bytes: int
    slices_handed_out: int = 16
    records_now: Callable[[], int] = lambda: sys.maxsize
    on_failed: Callable[[str], None] = logger.critical
    idle_pause: float = 0.0
    on_statistics: Callable[[dict[str, Any]], None] | None = None


class Transport(base.Transport):  # type: ignore[misc]
    """librdkafka in both directions."""

    Consumer: ClassVar[type[Consumer]] = Consumer
    Producer: ClassVar[type[Producer]] = Producer
    default_port = 9092
    driver_version = "inflight slices over librdkafka"

    def __init__(self, *args: Any, options: TransportOptions, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.options = options


class BatchApp(faust.App):  # type: ignore[misc]
    """A Faust app whose events are slices."""

    def __init__(self, *args: Any, options: TransportOptions, **kwargs: Any) -> None:
        self.transport_options = options
        super().__init__(*args, **kwargs)

    def _new_transport(self) -> Transport:
        return Transport(self.conf.broker_consumer, self, options=self.transport_options)

    _new_producer_transport = _new_transport

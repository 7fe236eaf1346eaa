"""The last windows of a model, from the topic of measurements."""

from collections import deque

from machine_learning_engineering.events.schemas import DriftMeasured, decode_measurement
from machine_learning_engineering.events.topics import MEASUREMENTS
from machine_learning_engineering.kafka.client import read_to_end
from machine_learning_engineering.settings import KernelSettings


def last_windows(settings: KernelSettings, model: str, count: int) -> list[DriftMeasured]:
    """The last measured windows of a model, the newest last.

    Raises:
        KafkaException: Kafka refuses the request.
        TimeoutError: the broker is unreachable.
    """
    newest: deque[DriftMeasured] = deque(maxlen=count)
    # All measurements of a model are in one partition, in order.
    for message in read_to_end(settings, MEASUREMENTS, timeout=10.0):
        if message.key() != model.encode():
            continue
        try:
            event = decode_measurement(message.value() or b"")
        except (ValueError, RecursionError):
            continue
        if isinstance(event, DriftMeasured) and event.model == model:
            newest.append(event)
    return list(newest)

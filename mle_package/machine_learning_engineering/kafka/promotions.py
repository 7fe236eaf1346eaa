"""Promotion events on the stream. Needs the extra `kafka`."""

from datetime import UTC, datetime

from confluent_kafka import KafkaException, Producer
from msgspec import UNSET

from machine_learning_engineering.events.schemas import ModelPromoted, encode
from machine_learning_engineering.events.topics import MODEL_EVENTS
from machine_learning_engineering.kafka.client import create_topics, producer_options, send, topic_name
from machine_learning_engineering.settings import KernelSettings


class PromotionNotAnnounced(RuntimeError):
    """The event was not acknowledged. The promotion stands: workers also poll the registry."""


def announce_promotion(
    settings: KernelSettings,
    model: str,
    version: str,
    *,
    reason: str,
    previous: str | None = None,
    timeout: float = 10.0,
) -> ModelPromoted:
    """Publish that `version` is the champion of `model`, so that running workers load it at once.

    Raises:
        PromotionNotAnnounced: The event was not acknowledged within `timeout` seconds.
    """
    event = ModelPromoted(model, version, datetime.now(UTC), reason, previous or UNSET)
    options = {**producer_options(settings), "delivery.timeout.ms": int(timeout * 1000)}
    # Errors are reported below, with the fix.
    producer = Producer({**options, "error_cb": lambda error: None, "log_level": 0})
    try:
        create_topics(settings, timeout)
        key = f"{event.__struct_config__.tag}/{model}"
        send(producer, topic_name(settings, MODEL_EVENTS), encode(event), key.encode(), timeout)
    except (KafkaException, TimeoutError) as error:
        raise PromotionNotAnnounced(f"{model} {version} was not announced on the stream: {error}") from error
    return event

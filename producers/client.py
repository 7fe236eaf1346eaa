"""The one way in which this room opens a Kafka producer, and what the errors of a send mean.

kafka-python needs care in four places: it turns idempotence off without an error when settings conflict, its buffer
has no bound of its own, and a send that timed out may still have been written. See `publisher` for the fourth.
"""

from typing import Any
from zlib import crc32

from kafka import KafkaProducer
from kafka import errors as kafka_errors

from machine_learning_engineering.events.topics import MAX_MESSAGE_BYTES
from producers.settings import ProducerSettings

# librdkafka's name of an option, as the settings have it, and kafka-python's name for the same.
_SAME_OPTION = {
    "client.id": "client_id",
    "compression.type": "compression_type",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.mechanisms": "sasl_mechanism",
    "sasl.password": "sasl_plain_password",
    "sasl.username": "sasl_plain_username",
    "security.protocol": "security_protocol",
    "ssl.ca.location": "ssl_cafile",
    "ssl.certificate.location": "ssl_certfile",
    "ssl.cipher.suites": "ssl_ciphers",
    "ssl.crl.location": "ssl_crlfile",
    "ssl.key.location": "ssl_keyfile",
    "ssl.key.password": "ssl_password",
}
_SECURITY_PREFIXES = ("sasl.", "security.", "ssl.", "enable.ssl.", "enable.sasl.", "https.")

# With these the broker (or the client, before sending) refused this very record: it is not on the topic.
_REFUSED = (
    kafka_errors.AuthorizationError,
    kafka_errors.InvalidRecordError,
    kafka_errors.InvalidTimestampError,
    kafka_errors.InvalidTopicError,
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.PolicyViolationError,
    kafka_errors.RecordListTooLargeError,
    kafka_errors.SaslAuthenticationFailedError,
    kafka_errors.UnsupportedForMessageFormatError,
    TypeError,
    ValueError,
)
_TIMED_OUT = (kafka_errors.KafkaTimeoutError, kafka_errors.RequestTimedOutError)


class MissingTopic(Exception):
    """The topic to publish to does not exist on the broker."""


def producer_options(settings: ProducerSettings) -> dict[str, Any]:
    """kafka-python's options of a producer that loses nothing: acks from all replicas, idempotent, bounded in time.

    Raises:
        ValueError: `kafka_options` hold a security option that kafka-python has no counterpart of. Leaving it out would
            weaken the connection without a word; options that are not about security are librdkafka's own and left out.
    """
    options: dict[str, Any] = {}
    for name, value in settings.kafka_options.items():
        if name in _SAME_OPTION:
            options[_SAME_OPTION[name]] = value
        elif name == "ssl.endpoint.identification.algorithm":
            options["ssl_check_hostname"] = value != "none"
        elif name.startswith(_SECURITY_PREFIXES):
            raise ValueError(
                f"INFLIGHT_KAFKA_OPTIONS has {name!r}, which producers can't honour; "
                f"they know {', '.join(_SAME_OPTION)}"
            )
    timeout_ms = int(settings.producer_delivery_timeout * 1000)
    return {
        **options,
        "bootstrap_servers": settings.kafka_bootstrap_servers.split(","),
        # Every setting that idempotence depends on is given: then a conflict is an error instead of a silent downgrade.
        "acks": "all",
        "enable_idempotence": True,
        "max_in_flight_requests_per_connection": 5,
        "retries": 1_000_000,  # bounded by time, not by count
        "delivery_timeout_ms": timeout_ms,
        "request_timeout_ms": min(30_000, timeout_ms),
        "max_block_ms": timeout_ms,
        "bootstrap_timeout_ms": min(30_000, timeout_ms),
        # Records gather by themselves while a batch is under way, so that waiting would only add latency at a low rate.
        "linger_ms": 0,
        "batch_size": 256 * 1024,
        # A topic that the broker invents lacks our configuration.
        "allow_auto_create_topics": False,
        # 7 % of the time of a send, and nobody reads them.
        "metrics_enabled": False,
    }


def connect(settings: ProducerSettings, max_record_bytes: int = MAX_MESSAGE_BYTES) -> KafkaProducer:
    """A connected producer, which refuses larger records before sending them.

    Raises:
        kafka.errors.KafkaTimeoutError: no broker answers.
        RuntimeError: kafka-python gave a producer without idempotence.
    """
    producer = KafkaProducer(**producer_options(settings), max_request_size=max_record_bytes)
    if not (producer.config["enable_idempotence"] and producer.config["acks"] == -1):
        disconnect(producer)
        raise RuntimeError("kafka-python turned idempotence off: publishing is refused, since records might be lost")
    return producer


def disconnect(producer: KafkaProducer) -> None:
    """Close a producer, in what state ever it is. Records under way get 5 seconds."""
    try:
        producer.close(timeout=5)
    except kafka_errors.KafkaTimeoutError:
        # Records are still under way, so it refuses to close and its thread would live on.
        producer._sender.force_close()
        producer._sender.join(5)
        producer.close(timeout=5)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, as librdkafka's clients (kcat, confluent-kafka) choose it too.

    So a request that is published again lands beside the first one. The Java client hashes with murmur2, which takes
    9 us a record in Python against 0.1 us for this.
    """
    return crc32(key) % partitions


def is_refusal(error: BaseException) -> bool:
    """True where `error` says for sure that the record was not written and never will be."""
    return isinstance(error, _REFUSED)


def is_timeout(error: BaseException) -> bool:
    """True where the time for a send is used up, and nobody can say whether the record was written."""
    return isinstance(error, _TIMED_OUT)

"""Connects kafka-python producers and classifies the errors of a send.

kafka-python needs care: it silently turns idempotence off when settings conflict, its buffer has no bound of its own,
and a send that timed out may still have been written. `publisher` handles a fourth problem, broken producers.
"""

from typing import Any
from zlib import crc32

from kafka import KafkaProducer
from kafka import errors as kafka_errors

from machine_learning_engineering.events.topics import MAX_MESSAGE_BYTES
from producers.settings import ProducerSettings

# librdkafka's names of options, which the settings use, and kafka-python's.
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

# The broker, or the client before sending, rejected this very record: it is not on the topic.
_REJECTED = (
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
    """kafka-python's options for a lossless producer: acknowledged by all replicas, idempotent, bounded in time.

    Raises:
        ValueError: `kafka_options` hold a security option that kafka-python lacks. Ignoring it would silently weaken
            the connection. Other options without a counterpart concern librdkafka only and are ignored.
    """
    options: dict[str, Any] = {}
    for name, value in settings.kafka_options.items():
        if name in _SAME_OPTION:
            options[_SAME_OPTION[name]] = value
        elif name == "ssl.endpoint.identification.algorithm":
            options["ssl_check_hostname"] = value != "none"
        elif name.startswith(_SECURITY_PREFIXES):
            raise ValueError(
                f"INFLIGHT_KAFKA_OPTIONS has {name!r}, which producers do not support; "
                f"they support {', '.join(_SAME_OPTION)}"
            )
    timeout_ms = int(settings.producer_delivery_timeout * 1000)
    return {
        **options,
        "bootstrap_servers": settings.kafka_bootstrap_servers.split(","),
        # With every setting that idempotence depends on given, a conflict is an error and not a silent downgrade.
        "acks": "all",
        "enable_idempotence": True,
        "max_in_flight_requests_per_connection": 5,
        "retries": 1_000_000,  # bounded by time, not by count
        "delivery_timeout_ms": timeout_ms,
        "request_timeout_ms": min(30_000, timeout_ms),
        "max_block_ms": timeout_ms,
        "bootstrap_timeout_ms": min(30_000, timeout_ms),
        # Batches form by themselves while another one is in flight: lingering would only add latency at low rates.
        "linger_ms": 0,
        "batch_size": 256 * 1024,
        # An auto-created topic lacks our configuration.
        "allow_auto_create_topics": False,
        # They take 7 % of the time of a send, and nothing reads them.
        "metrics_enabled": False,
    }


def connect(settings: ProducerSettings, max_record_bytes: int = MAX_MESSAGE_BYTES) -> KafkaProducer:
    """A connected producer that rejects larger records before sending them.

    Raises:
        kafka.errors.KafkaTimeoutError: no broker is reachable.
        RuntimeError: kafka-python returned a producer without idempotence.
    """
    producer = KafkaProducer(**producer_options(settings), max_request_size=max_record_bytes)
    if not (producer.config["enable_idempotence"] and producer.config["acks"] == -1):
        disconnect(producer)
        raise RuntimeError("kafka-python turned idempotence off; refusing to publish, since records might be lost")
    return producer


def disconnect(producer: KafkaProducer) -> None:
    """Close a producer in any state. Records in flight get 5 seconds."""
    try:
        producer.close(timeout=5)
    except kafka_errors.KafkaTimeoutError:
        # It does not close while records are in flight, and its thread would live on.
        producer._sender.force_close()
        producer._sender.join(5)
        producer.close(timeout=5)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key, as librdkafka's clients (kcat, confluent-kafka) choose it.

    A request that is published again therefore goes to the same partition. The Java client's hash, murmur2, would take
    9 us per record in Python; this one takes 0.1 us.
    """
    return crc32(key) % partitions


def is_rejection(error: BaseException) -> bool:
    """Whether `error` proves that the record was not written and never will be."""
    return isinstance(error, _REJECTED)


def is_timeout(error: BaseException) -> bool:
    """Whether the send timed out, so that it is unknown whether the record was written."""
    return isinstance(error, _TIMED_OUT)

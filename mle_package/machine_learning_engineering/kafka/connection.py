"""What a client logs while no broker responds. Needs the extra `kafka` (confluent-kafka)."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaError

from machine_learning_engineering.observability.rate_limit import ONCE_A_MINUTE, RATE_LIMITED

logger = logging.getLogger(__name__)
# In a command without a service log, the final error is enough; Python would print a line per attempt.
logger.addHandler(logging.NullHandler())

_NO_RESPONSE = frozenset(
    (
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TRANSPORT,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._AUTHENTICATION,
        KafkaError._SSL,
    )
)


def is_no_response(error: KafkaError) -> bool:
    """Whether the client reaches no broker, or none that lets it in."""
    return error.code() in _NO_RESPONSE


def no_response(servers: object, error: KafkaError) -> str:
    """The line that names the servers, the setting and the cause."""
    return f"no response from Kafka at {servers} ({error.str()}): check INFLIGHT_KAFKA_BOOTSTRAP_SERVERS and the broker"


def error_logger(options: Mapping[str, Any]) -> Callable[[KafkaError], None]:
    """Return the `error_cb` of a client with these options.

    Each client of a process reports each attempt to connect, many times a second: together they log one line a minute.
    """
    servers = options.get("bootstrap.servers")

    def log(error: KafkaError) -> None:
        if is_no_response(error):
            logger.warning("%s; trying again", no_response(servers, error), extra=ONCE_A_MINUTE)
        else:
            logger.warning("Kafka: %s", error.str(), extra=RATE_LIMITED)

    return log

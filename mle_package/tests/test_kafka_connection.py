"""What a process tells while no broker responds."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

pytest.importorskip("confluent_kafka", reason="needs the extra kafka")

from confluent_kafka import KafkaError

from machine_learning_engineering.kafka.connection import error_logger
from machine_learning_engineering.observability.rate_limit import ONCE_A_MINUTE, RateLimitFilter

SERVERS = {"bootstrap.servers": "kafka:9092"}
# What librdkafka reports again and again about one broker that is down.
ATTEMPTS = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE, KafkaError._AUTHENTICATION)


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """The lines that pass the filter of the service log."""
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    handler.addFilter(RateLimitFilter())
    logger = logging.getLogger("machine_learning_engineering.kafka.connection")
    logger.addHandler(handler)
    yield told
    logger.removeHandler(handler)


def test_all_clients_together_tell_once_that_no_broker_responds(lines: io.StringIO) -> None:
    """Each attempt of each client is an error of its own: the line names the servers, the setting and the cause."""
    clients = [error_logger(SERVERS) for _ in range(3)]
    for number in range(300):
        clients[number % 3](KafkaError(ATTEMPTS[number % 4], f"attempt {number}"))
    [line] = lines.getvalue().splitlines()
    assert line == (
        "no response from Kafka at kafka:9092 (attempt 0): check INFLIGHT_KAFKA_BOOTSTRAP_SERVERS and the broker; "
        "trying again"
    )


def test_other_errors_are_told_beside_it(lines: io.StringIO) -> None:
    """A missing topic is not hidden by a broker that is down."""
    log = error_logger(SERVERS)
    for _ in range(2):
        log(KafkaError(KafkaError._TRANSPORT, "refused"))
        log(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, "no such topic"))
    assert lines.getvalue().splitlines()[1:] == ["Kafka: no such topic"] * 2


def test_a_message_may_bring_its_own_limit() -> None:
    """One line, and the next after its time says how many were withheld."""
    limit = RateLimitFilter()

    def record() -> logging.LogRecord:
        found = logging.LogRecord("x", logging.WARNING, "x.py", 1, "x", (), None)
        found.__dict__.update(ONCE_A_MINUTE)
        return found

    assert [limit.filter(record()) for _ in range(4)] == [True, False, False, False]
    later = record()
    later.__dict__["rate_limited"] = (1, -1.0)
    assert limit.filter(later)
    assert json.loads(json.dumps(later.__dict__["inflight_fields"])) == {"inflight.lines_withheld": 3}

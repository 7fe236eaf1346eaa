"""Options of kafka-python producers, and what the errors of a send mean."""

import pytest
from kafka import errors as kafka_errors

from inflight.settings import Settings
from producers.client import is_rejection, is_timeout, partition_of, producer_options


def _settings(**options: str) -> Settings:
    return Settings(_env_file=None, kafka_bootstrap_servers="a:1,b:2", kafka_options=options)


def test_nothing_that_idempotence_needs_is_left_to_a_default() -> None:
    """kafka-python turns idempotence off silently only where the user left it to the default."""
    options = producer_options(_settings())
    assert options["enable_idempotence"] is True
    assert options["acks"] == "all"
    assert 1 <= options["max_in_flight_requests_per_connection"] <= 5
    assert options["retries"] > 0
    assert options["bootstrap_servers"] == ["a:1", "b:2"]


def test_security_options_are_translated() -> None:
    """The settings speak librdkafka; kafka-python has other names."""
    options = producer_options(
        _settings(
            **{
                "security.protocol": "SASL_SSL",
                "sasl.mechanisms": "PLAIN",
                "sasl.username": "u",
                "sasl.password": "p",
                "ssl.ca.location": "ca.pem",
                "ssl.endpoint.identification.algorithm": "none",
                "socket.keepalive.enable": "true",
            }
        )
    )
    assert options["security_protocol"] == "SASL_SSL"
    assert (options["sasl_mechanism"], options["sasl_plain_username"], options["sasl_plain_password"]) == (
        "PLAIN",
        "u",
        "p",
    )
    assert (options["ssl_cafile"], options["ssl_check_hostname"]) == ("ca.pem", False)
    assert "socket.keepalive.enable" not in options


def test_a_security_option_without_a_counterpart_is_refused() -> None:
    """Leaving it out would weaken the connection without a word."""
    with pytest.raises(ValueError, match=r"ssl\.curves\.list.*producers do not support"):
        producer_options(_settings(**{"ssl.curves.list": "x"}))


def test_only_a_definite_answer_counts_as_a_refusal() -> None:
    """A record is failed only if it surely is not on the topic."""
    assert is_rejection(kafka_errors.MessageSizeTooLargeError())
    assert is_rejection(kafka_errors.TopicAuthorizationFailedError())
    for error in (
        kafka_errors.KafkaTimeoutError(),
        kafka_errors.RequestTimedOutError(),
        kafka_errors.NotEnoughReplicasAfterAppendError(),
        kafka_errors.OutOfOrderSequenceNumberError(),
        kafka_errors.KafkaConnectionError(),
        RuntimeError(),
    ):
        assert not is_rejection(error)
    assert is_timeout(kafka_errors.KafkaTimeoutError())


def test_a_key_lands_where_librdkafka_puts_it() -> None:
    """CRC-32 of the key, modulo the number of partitions: 0xCBF43926 is the check value of CRC-32."""
    assert partition_of(b"123456789", 1 << 32) == 0xCBF43926
    assert {partition_of(str(number).encode(), 4) for number in range(100)} == {0, 1, 2, 3}

"""What Inflight needs of a broker's records and topics, on every kind of broker, with both clients."""

import os
import time

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, TIMESTAMP_LOG_APPEND_TIME, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from inflight.settings import Settings
from machine_learning_engineering.events.topics import MEBIBYTE, REQUESTS, RESULTS
from machine_learning_engineering.kafka.client import (
    client_options,
    create_topics,
    end_offsets,
    producer_options,
    read_to_end,
    topic_name,
)
from tests.support.broker_clients import ALL, Send


@pytest.mark.usefixtures("each_broker")
def test_a_record_comes_back_with_its_headers_and_a_null_key(settings: Settings, send: Send) -> None:
    """Value, null key, repeated and empty headers survive an acks=all idempotent publish."""
    headers = [("traceparent", b"00-ab-cd-01"), ("ce_source", b"/x"), ("ce_source", b"/y"), ("empty", b"")]
    send(topic_name(settings, RESULTS), b'{"a": 1}', None, headers)

    (message,) = read_to_end(settings, RESULTS)

    assert (message.value(), message.key(), message.headers()) == (b'{"a": 1}', None, headers)


@pytest.mark.usefixtures("each_broker")
def test_a_null_value_stays_null(settings: Settings, send: Send) -> None:
    """A tombstone is not an empty value."""
    send(topic_name(settings, RESULTS), None, b"key")
    send(topic_name(settings, RESULTS), b"", b"key")

    assert [message.value() for message in read_to_end(settings, RESULTS)] == [None, b""]


@pytest.mark.usefixtures("each_broker")
def test_records_of_a_key_keep_their_order(settings: Settings) -> None:
    """Records of one key are in one partition, in the order of publishing, while many are in flight."""
    producer = Producer(producer_options(settings))
    for number in range(1_000):
        producer.produce(topic_name(settings, REQUESTS), str(number), key=f"key-{number % 7}")
    assert producer.flush(120) == 0

    by_key: dict[bytes, list[tuple[int, int]]] = {}
    for message in read_to_end(settings, REQUESTS):
        by_key.setdefault(message.key(), []).append((message.partition(), int(message.value())))

    assert sum(map(len, by_key.values())) == 1_000
    for records in by_key.values():
        assert len({partition for partition, _ in records}) == 1
        assert [number for _, number in records] == sorted(number for _, number in records)


@pytest.mark.usefixtures("each_broker")
def test_topics_are_created_once_with_their_configuration(settings: Settings) -> None:
    """Creating them again changes nothing, and each has the partitions that the settings say."""
    assert create_topics(settings) == []
    assert set(end_offsets(settings, REQUESTS)) == ALL


@pytest.mark.usefixtures("each_broker")
def test_a_compacted_topic_is_accepted(settings: Settings, send: Send) -> None:
    """Model events go to a compacted topic; both records of a key are readable before compaction."""
    admin = AdminClient(client_options(settings))
    name = topic_name(settings, "compacted")
    admin.create_topics([NewTopic(name, 1, 1, config={"cleanup.policy": "compact"})])[name].result()

    send(name, b"old", b"model")
    send(name, b"new", b"model")

    assert [message.value() for message in read_to_end(settings, "compacted")][-1] == b"new"


@pytest.mark.usefixtures("each_broker")
def test_a_request_of_three_megabytes_is_accepted(settings: Settings, send: Send) -> None:
    """The requests topic takes more than `max_request_bytes`, so that an oversize request becomes a dead letter."""
    value = os.urandom(3 * MEBIBYTE)
    send(topic_name(settings, REQUESTS), value, b"key")

    (message,) = read_to_end(settings, REQUESTS)

    assert message.value() == value


@pytest.mark.usefixtures("each_broker")
def test_a_request_above_the_topic_limit_is_refused(settings: Settings, send: Send) -> None:
    """Its producer sees the error, and nothing is stored."""
    with pytest.raises(RuntimeError, match=r"MSG_SIZE_TOO_LARGE|MessageSizeTooLarge"):
        send(topic_name(settings, REQUESTS), os.urandom(5 * MEBIBYTE), b"key")
    assert list(read_to_end(settings, REQUESTS)) == []


@pytest.mark.usefixtures("each_broker")
def test_the_broker_stamps_requests_with_its_own_clock(settings: Settings, send: Send) -> None:
    """The accepted time of a request doesn't depend on its producer's clock."""
    before = time.time() * 1000
    send(topic_name(settings, REQUESTS), b"x", b"key", timestamp=1_000_000)

    (message,) = read_to_end(settings, REQUESTS)

    kind, stamp = message.timestamp()
    assert kind == TIMESTAMP_LOG_APPEND_TIME
    assert before - 1_000 <= stamp <= time.time() * 1000 + 1_000


@pytest.mark.usefixtures("each_broker")
def test_other_topics_keep_the_time_of_the_producer(settings: Settings, send: Send) -> None:
    """A result carries the time that the worker gave it."""
    send(topic_name(settings, RESULTS), b"x", b"key", timestamp=1_700_000_000_123)

    (message,) = read_to_end(settings, RESULTS)

    assert message.timestamp() == (TIMESTAMP_CREATE_TIME, 1_700_000_000_123)

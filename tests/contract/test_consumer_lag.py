"""The lag of consumer groups, as the brokers tell it: records count, and nothing else does."""

import time
import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from inflight.settings import Settings
from machine_learning_engineering.events.topics import DEAD_LETTERS, LABELS, REQUESTS
from machine_learning_engineering.kafka.client import consumer_options, end_offsets, producer_options, topic_name
from monitoring.exporter.lag import LagReader, PartitionLag
from monitoring.runtime.groups import INDEXER, LABEL_JOINER, WORKER
from tests.support.waiting import until


@pytest.fixture
def reader(settings: Settings) -> Iterator[LagReader]:
    found = LagReader(settings)
    yield found
    found.close()


def transactional(settings: Settings) -> Producer:
    options = {"transactional.id": f"t-{uuid.uuid4().hex}", "delivery.timeout.ms": 30_000}
    producer = Producer({**producer_options(settings), **options})
    producer.init_transactions(30)
    return producer


def commit_everything(settings: Settings, group: str, topic: str, records: int) -> None:
    """Read all records and commit as a consumer of ours does: the offset after the last record that it was handed."""
    consumer = Consumer(consumer_options(settings, group))
    consumer.subscribe([topic_name(settings, topic)])
    seen: dict[int, int] = {}
    count = 0
    while count < records:
        for message in consumer.consume(100, 1.0):
            if message.error() is None:
                seen[message.partition()] = message.offset() + 1
                count += 1
    consumer.commit(
        offsets=[TopicPartition(topic_name(settings, topic), *where) for where in seen.items()], asynchronous=False
    )
    consumer.close()


def waiting(reader: LagReader, group: str, topic: str) -> list[PartitionLag]:
    return [part for part in reader.measure().groups[group, topic] if part.records]


@pytest.mark.usefixtures("each_broker")
@pytest.mark.parametrize(("group", "topic"), [(WORKER, REQUESTS), (LABEL_JOINER, LABELS)])
def test_the_end_of_a_transaction_is_no_lag(settings: Settings, reader: LagReader, group: str, topic: str) -> None:
    """Every record of committed transactions is read; their end markers and an aborted transaction are behind them."""
    producer = transactional(settings)
    producer.begin_transaction()
    for number in range(8):
        producer.produce(topic_name(settings, topic), b"x", key=str(number))
    producer.commit_transaction(30)
    producer.begin_transaction()
    for number in range(8):
        producer.produce(topic_name(settings, topic), b"x", key=str(number))
    producer.flush(30)
    producer.abort_transaction(30)
    assert sum(part.records for part in waiting(reader, group, topic)) >= 8
    commit_everything(settings, group, topic, records=8)
    # No record waits, although the topic goes on behind the committed offsets.
    for _ in range(2):
        assert reader.read()[group, topic] == 0
    # Another producer: the embedded broker hides all later records of one that aborted from a reader that begins behind
    # the aborted transaction.
    another = transactional(settings)
    another.begin_transaction()
    another.produce(topic_name(settings, topic), b"x", key=b"1")
    another.commit_transaction(30)
    (part,) = waiting(reader, group, topic)
    assert part.timestamp is not None
    assert time.time() - part.timestamp < 120


@pytest.mark.usefixtures("each_broker")
def test_the_age_is_that_of_the_first_record_that_waits(settings: Settings, reader: LagReader) -> None:
    """By its timestamp; records behind it do not change that. On a topic whose times are the sender's."""
    name = topic_name(settings, DEAD_LETTERS)
    producer = Producer(producer_options(settings))
    old = int(time.time() - 3_600) * 1_000
    for number, timestamp in enumerate((old, old + 60_000, 0)):
        producer.produce(name, str(number), partition=0, timestamp=timestamp)
        producer.flush(30)
    (part,) = waiting(reader, INDEXER, DEAD_LETTERS)
    assert (part.records, part.committed, part.timestamp) == (3, None, old / 1_000)
    consumer = Consumer(consumer_options(settings, INDEXER))
    consumer.commit(offsets=[TopicPartition(name, 0, 1)], asynchronous=False)
    consumer.close()
    (part,) = waiting(reader, INDEXER, DEAD_LETTERS)
    assert (part.records, part.committed, part.timestamp) == (2, 1, old / 1_000 + 60)


@pytest.mark.usefixtures("each_broker")
def test_an_offset_that_the_topic_does_not_have_is_behind_from_the_first_record_on(
    settings: Settings, reader: LagReader
) -> None:
    """As after the topic was deleted and created again: its consumer starts over."""
    name = topic_name(settings, LABELS)
    producer = Producer(producer_options(settings))
    producer.produce(name, b"x", partition=0)
    producer.flush(30)
    consumer = Consumer(consumer_options(settings, LABEL_JOINER))
    consumer.commit(offsets=[TopicPartition(name, 0, 500)], asynchronous=False)
    consumer.close()
    assert reader.read()[LABEL_JOINER, LABELS] == 1


@pytest.mark.parametrize("each_broker", ["real"], indirect=True)
@pytest.mark.usefixtures("each_broker")
def test_records_behind_an_open_transaction_are_hidden(settings: Settings, reader: LagReader) -> None:
    """No consumer gets them, committed or not: they are no lag, and are counted on their own."""
    producer = transactional(settings)
    producer.begin_transaction()
    producer.produce(topic_name(settings, REQUESTS), b"x", partition=0)
    producer.flush(30)
    other = Producer(producer_options(settings))
    other.produce(topic_name(settings, REQUESTS), b"y", partition=0)
    other.flush(30)
    lags = reader.measure()
    assert lags.topics[REQUESTS].hidden[0] == 2
    assert reader.read()[WORKER, REQUESTS] == 0
    producer.commit_transaction(30)
    until(lambda: not any(reader.measure().topics[REQUESTS].hidden.values()), 60, "nothing is hidden")
    # The end marker behind them counts: only the first record is looked at.
    assert reader.read()[WORKER, REQUESTS] in (2, 3)
    assert sum(high for _, high in end_offsets(settings, REQUESTS).values()) == 3
